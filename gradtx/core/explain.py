"""One step, broken down by link: `gradtx.explain`.

The step is computed outside of compiled code with a recorder around every transformation inside of `tx`. A recorder
notes what goes in and what comes out; the state keeps its structure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax

from gradtx import checks, select
from gradtx.core.branch import is_traced
from gradtx.core.recording import Call, Spec, picked, watched
from gradtx.core.stages import Stage, norm, stages
from gradtx.core.table import Shown, Table, number
from gradtx.core.transformation import as_transformation
from gradtx.types import Params, State, Transformation, Updates

__all__ = ["Explanation", "explain"]


class Explanation(Shown):
    """One step for the chosen parameters, link by link. Prints as a table."""

    def __init__(self, leaves: Sequence[str], stages: Sequence[Stage], norms: Sequence[float], fresh: bool) -> None:
        self.leaves = tuple(leaves)
        """The paths of the chosen parameters."""
        self.stages = tuple(stages)
        """What each link did, in the order of the step."""
        self.grad_norm, self.update_norm, self.param_norm = norms
        self.fresh = fresh
        """Whether no state was given, so that this is the first step."""

    @property
    def update_ratio(self) -> float:
        """The norm of the update divided by the norm of the parameters."""
        return self.update_norm / self.param_norm if self.param_norm else math.nan

    @property
    def effective_rate(self) -> float | None:
        """The factor, with its sign flipped, by which the last transformations of the chain scale the update.

        For `adamw` it is the learning rate, times the factors of any later transformations that only scale. None if the
        last transformation does not merely scale, if earlier transformations cannot be inspected, or if groups of
        parameters have different factors.
        """
        rates = {_rate([stage for stage in self.stages if path in stage.leaves]) for path in self.leaves}
        return rates.pop() if len(rates) == 1 else None

    @property
    def smallest(self) -> Stage | None:
        """The stage with the smallest ratio of output norm to input norm; None if no stage shrinks the update."""
        found = [stage for stage in self.stages if stage.factor < 1]
        return min(found, key=lambda stage: stage.factor, default=None)

    def _parts_shown(self) -> Sequence[Table | str]:
        shown = ", ".join(path or "(the tree itself)" for path in self.leaves[:3])
        which = f"{len(self.leaves)} parameters: {shown}, ..." if len(self.leaves) > 3 else shown
        rows = [
            (x.link, number(x.before), number(x.after), number(x.factor), "; ".join(filter(None, [_listed(x), x.note])))
            for x in self.stages
        ]
        table = Table(
            ("link", "norm before", "norm after", "factor", "details"),
            rows,
            frozenset({"norm before", "norm after", "factor"}),
            f"One step of {which}" + (" (the first: no state was given)" if self.fresh else ""),
        )
        lines = [
            f"gradient {number(self.grad_norm)}, update {number(self.update_norm)}, parameters "
            f"{number(self.param_norm)}, update / parameters {number(self.update_ratio)}",
            f"effective learning rate {number(self.effective_rate)}",
        ]
        if self.smallest is not None:
            lines.append(f"smallest factor {number(self.smallest.factor)}, of {self.smallest.link}")
        return table, "\n".join(lines)


def _listed(stage: Stage) -> str:
    return ", ".join(f"{name}={number(x)}" for name, x in stage.numbers.items())


def explain(
    tx: Transformation,
    params: Params,
    grads: Updates,
    state: State = None,
    *,
    leaf: str | select.Selector | None = None,
    **extra: Any,
) -> Explanation:
    """Shows what each link of `tx` does to the gradient in one step: why an update is as small, or as large, as it is.

    The step is computed once more, outside of compiled code. Nothing that you pass is changed, and a program that does
    not call `explain` does nothing for it.

    Args:
      tx: The transformation.
      params: The parameters.
      grads: The gradient, a tree like `params`.
      state: The state before the step. By default a fresh one, so that the step is the first.
      leaf: Which parameters to look at: a path such as `dense/kernel`, which may have wildcards as in
        `gx.select.path`, or a selector. By default all. The norms are those of the chosen parameters together.
      **extra: The extra arguments of `tx.update`.

    Returns:
      An explanation, which prints as a table (`show()` prints it in color where rich is installed). Each of its
      `stages` has `link`, `before` and `after` (norms), `factor`, `scaled_by`, `numbers` (hyperparameters as this step
      used them, clip factors) and `note`. `effective_rate`, `update_ratio`, `smallest` and the three norms sum it up.
      What a wrapper changes is a stage '(in)' or '(out)'. A link that cannot be looked into is one stage, with a note.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> params = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([1.0])}
    >>> grads = {"w": jnp.array([30.0, 40.0]), "b": jnp.array([0.0])}
    >>> tx = gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1))
    >>> print(gx.explain(tx, params, grads, leaf="w"))
    One step of w (the first: no state was given)
    link                    norm before  norm after  factor  details
    clip_by_global_norm              50           1    0.02  max_norm=1, clip_factor=0.02
    scale_by_learning_rate            1         0.1     0.1  learning_rate=0.1
    <BLANKLINE>
    gradient 50, update 0.1, parameters 5, update / parameters 0.02
    effective learning rate 0.002
    smallest factor 0.02, of clip_by_global_norm

    Raises:
      TypeError: `tx` is not a transformation, or `leaf` is neither a path nor a selector.
      ValueError: `leaf` matches no parameter, or the arrays are known only inside a compiled function.
    """
    tx = as_transformation("explain", tx)
    if is_traced((tx, params, grads, state, extra)):
        raise ValueError("explain: call it outside of jax.jit, grad and vmap: it reads the numbers of a step.")
    chosen, fresh = _chosen(leaf, params), state is None
    return _explained(tx, params, grads, tx.init(params) if fresh else state, chosen, extra, fresh)


def _explained(
    tx: Any, params: Params, grads: Updates, state: State, chosen: list[int], extra: Any, fresh: bool
) -> Explanation:
    paths = checks.paths(params)
    updates, _ = tx.update(grads, state, params, **extra)  # raises, in its own words, if the call is wrong
    positions = jax.tree.unflatten(jax.tree.structure(params), range(len(paths)))
    root = Call(Spec("", tx, (), (), (), ()), grads)
    recorded = watched(tx, "", params, positions, {i: paths[i] for i in chosen}, [root])
    recorded.update(grads, state, params, **extra)
    norms = [norm(picked(tree, chosen)) for tree in (grads, updates, params)]
    return Explanation([paths[i] for i in chosen], list(stages(root.calls[0])), norms, fresh)


def _chosen(leaf: Any, params: Params) -> list[int]:
    if isinstance(leaf, str):
        leaf = select.path(leaf)
    if leaf is None:
        return list(range(len(jax.tree.leaves(params))))
    if not isinstance(leaf, select.Selector):
        raise TypeError(
            f"explain: leaf must be a path such as 'dense/kernel' or a selector (gx.select), got {checks.shown(leaf)}."
        )
    return [i for i, yes in enumerate(jax.tree.leaves(leaf(params))) if yes]


def _rate(stages: Sequence[Stage]) -> float | None:
    """Returns the negated factor that the stages after the last change of direction apply; None if there are none."""
    rate, scales = -1.0, False
    for stage in reversed(stages):
        if stage.scaled_by is None:
            return rate + 0.0 if scales and not stage.opaque else None  # a sum, for -0.0 is printed as such
        rate, scales = rate * stage.scaled_by, scales or stage.scaled_by != 1
    return rate + 0.0 if scales else None
