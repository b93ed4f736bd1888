"""The engine: rules written for one tensor, run over trees.

A rule says what happens to one leaf, in `init_leaf` and `update_leaf`, as in the paper. The
engine alone knows about trees, None leaves, the step counter, dtypes, schedules and errors.

Three base classes say what a rule may look at, and the laws hold a rule to what it says:

    Elementwise   every entry by itself: gluing leaves together changes nothing
    Layerwise     a leaf as a whole, but no other leaf
    Treewide      the whole tree, once a step, in `measure`, whose scalars `update_leaf` receives

Neighbouring rules run as one jitted call per leaf (`run_update`), traced once for each
leaf shape. In that call Python numbers are static, so that `1 - b2` is taken in double precision;
arrays, tracers and the values of schedules are traced, in float32 or wider.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.core.hyper import Schedule
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import Value

__all__ = ["CountState", "Elementwise", "Layerwise", "Leafwise", "Like", "Treewide"]

Like = Annotated[Any, "like"]
"""A state field with one array per parameter, shaped like it."""


class CountState(NamedTuple):
    """The state of a rule that only counts its steps, so that its hyperparameters may follow schedules."""

    count: Array


class Leafwise(GradientTransformation):
    """A transformation given by a rule for one leaf; subclass one of the three scopes instead.

    Class arguments:
      state: the NamedTuple class of the state: `count`, then one field per slot of a leaf.
      needs: which of `params` and the extra arguments `update` cannot do without.
    """

    State: ClassVar[type[Any]] = CountState
    needs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(
        cls, *, state: type[Any] | None = None, needs: tuple[str, ...] | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if state is not None:
            cls.State = state
        if needs is not None:
            cls.needs = needs
            cls.extra_args = frozenset(needs) - {"params"}

    # --- what a rule defines

    def init_leaf(self, p: Array) -> tuple[Any, ...]:
        """The slots of one parameter: one array for each state field after `count`."""
        del p
        return ()

    def at_step(self, t: Array) -> Any:
        """What all leaves share at step `t`, which counts from 1: computed once, passed to `update_leaf`."""
        del t

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """The update and the new slots of one leaf.

        All arrays come in float32 or wider, and the engine casts what is returned to the dtypes of
        the gradient and of the old slots. `p` is None unless the rule needs `params`; `shared` is
        what `at_step` returned, or what the `measure` of a treewide rule did.
        """
        raise NotImplementedError

    def where(self, params: Any) -> Sequence[bool] | None:
        """For each leaf of `params`, whether the rule applies to it; None where it applies to all."""
        del params
        return None

    # --- what the engine makes of it

    def init(self, params: Any) -> Any:
        who = type(self).__name__
        leaves, treedef = jax.tree.flatten(params)
        checks.floating(who, "params", params, leaves)
        rule = self._filled(self._dynamic, [_resolve(self, name, 0) for name in self._dynamic])
        slots = [rule.init_leaf(jnp.asarray(p)) for p in leaves]
        columns = zip(*slots, strict=True) if slots else ((),) * (len(self.State._fields) - 1)
        return self.State(jnp.zeros((), jnp.int32), *map(treedef.unflatten, columns))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        updates, states = run_update((self,), updates, (state,), params, extra)
        return updates, states[0]

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        for name in self._dynamic:
            value = getattr(self, name)
            if state is not None and isinstance(value, Schedule):
                value = value(state.count)
            yield name, value


class Elementwise(Leafwise):
    """A rule that treats every entry by itself."""


class Layerwise(Leafwise):
    """A rule that sees one leaf as a whole."""


class Treewide(Leafwise):
    """A rule that sees the whole tree once a step."""

    def measure(self, updates: Any, slots: Any, params: Any, t: Array, **extra: Any) -> Any:
        """Scalars computed from the whole tree, once a step; `update_leaf` receives them as `shared`.

        `slots` is a tuple of trees, one for each state field after `count`; `extra` holds the extra
        arguments that the class needs; `params` is None unless it needs them.
        """
        raise NotImplementedError


def run_update(
    rules: Sequence[Leafwise], updates: Any, states: Sequence[Any], params: Any, extra: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """Updates and new states of neighbouring rules: one pass over the leaves, and one more for each rule that measures.

    Between the passes updates stay in float32 or wider.
    """
    leaves, treedef = jax.tree.flatten(updates)
    columns, p_leaves = _check(rules, updates, leaves, treedef, states, params, extra)
    dtypes = [jnp.result_type(g) for g in leaves]
    new_states: list[Any] = []
    starts = [0, *(i for i, rule in enumerate(rules) if i and isinstance(rule, Treewide)), len(rules)]
    for start, stop in itertools.pairwise(starts):
        part = slice(start, stop)
        run, arrays = _compiled(rules[part])
        hypers, counts, shared = run.begin(arrays, [state.count for state in states[part]])
        if isinstance(rules[start], Treewide):
            needed = {name: extra[name] for name in rules[start].extra_args}
            tree = (treedef.unflatten(leaves), tuple(states[start][1:]), params if run.needs_params else None)
            shared[0] = run.measure(hypers[0], *tree, counts[0], needed)
        active = _active(rules[part], params, len(leaves))
        outs = dtypes if stop == len(rules) else [None] * len(leaves)
        p_part = p_leaves if run.needs_params else [None] * len(leaves)
        rows = [zip(*column, strict=True) if column else [()] * len(leaves) for column in columns[part]]
        steps = [
            run.step(which, out, hypers, g, slots, p, shared)
            for which, out, g, p, *slots in zip(active, outs, leaves, p_part, *rows, strict=True)
        ]
        leaves = [u for u, _ in steps]
        for i, (state, count) in enumerate(zip(states[part], counts, strict=True)):
            new_columns = zip(*(new[i] for _, new in steps), strict=True) if steps else ((),) * (len(state) - 1)
            new_states.append(type(state)(count, *map(treedef.unflatten, new_columns)))
    return treedef.unflatten(leaves), new_states


def _check(
    rules: Sequence[Leafwise],
    updates: Any,
    leaves: Sequence[Any],
    treedef: Any,
    states: Sequence[Any],
    params: Any,
    extra: dict[str, Any],
) -> tuple[list[list[Any]], Sequence[Any]]:
    """Raises unless the arguments fit together; the slots' leaves by rule and field, and the parameters'."""
    for rule in rules:
        for name in rule.needs:
            if (params if name == "params" else extra.get(name)) is None and leaves:
                raise ValueError(
                    f"{type(rule).__name__}.update needs `{name}`, which is missing: call "
                    f"tx.update(updates, state, params{'' if name == 'params' else f', {name}={name}'})."
                )
    who = " + ".join(type(rule).__name__ for rule in rules)
    checks.floating(who, "updates", updates, leaves)
    p_leaves: Sequence[Any] = []
    if params is not None:
        p_leaves, p_treedef = jax.tree.flatten(params)
        if p_treedef != treedef:
            raise checks.tree_mismatch(who, "updates", updates, "params", params)
        checks.same_shapes(who, "updates", updates, leaves, "params", p_leaves)
    columns = []
    for rule, state in zip(rules, states, strict=True):
        if not isinstance(state, rule.State):
            raise TypeError(
                f"{type(rule).__name__}.update: the state must be a {rule.State.__name__}, got "
                f"{checks.shown(state)}. Pass the state that tx.init(params) or the last tx.update returned."
            )
        columns.append([_column(who, rule, name, updates, leaves, treedef, tree) for name, tree in _slots(state)])
    return columns, p_leaves


def _slots(state: Any) -> Iterator[tuple[str, Any]]:
    return zip(state._fields[1:], state[1:], strict=True)


def _column(who: str, rule: Leafwise, name: str, updates: Any, leaves: Any, treedef: Any, tree: Any) -> list[Any]:
    """The leaves of one state field, checked against the updates."""
    try:
        column = treedef.flatten_up_to(tree)
    except ValueError:
        raise checks.tree_mismatch(who, "updates", updates, f"state.{name}", tree) from None
    if name in _like_fields(rule.State):
        checks.same_shapes(who, "updates", updates, leaves, f"state.{name}", column)
    return column


@cache
def _like_fields(state: type[Any]) -> frozenset[str]:
    """The fields of a state class that are declared `Like`."""
    hints = get_type_hints(state, include_extras=True)
    return frozenset(name for name, hint in hints.items() if hint is Like)


def _active(rules: Sequence[Leafwise], params: Any, n: int) -> Sequence[tuple[int, ...]]:
    """For each leaf, the positions of the rules that apply to it."""
    masks = [rule.where(params) for rule in rules]
    if all(mask is None for mask in masks):
        return [tuple(range(len(rules)))] * n
    return [tuple(i for i, mask in enumerate(masks) if mask is None or mask[leaf]) for leaf in range(n)]


# A run's key: the treedef of its rules, and their Python numbers, with None where an array stands.
_Spec = tuple[Any, tuple[Any, ...]]


def _split(value: Any) -> tuple[_Spec, list[Any]]:
    leaves, treedef = jax.tree.flatten(value)
    key = tuple(x if leaf.is_number(x) else None for x in leaves)
    return (treedef, key), [x for x in leaves if not leaf.is_number(x)]


def _merge(spec: _Spec, arrays: Sequence[Any]) -> Any:
    treedef, key = spec
    rest = iter(arrays)
    return treedef.unflatten([next(rest) if x is None else x for x in key])


def _resolve(rule: Leafwise, name: str, count: Any) -> Any:
    """A hyperparameter as a rule sees it: a Python number, or a scalar array in float32 or wider."""
    value = getattr(rule, name)
    if isinstance(value, Schedule):
        value = value(count)
    if isinstance(value, Value) or leaf.is_number(value):
        return value
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"{type(rule).__name__}: {name} has shape {value.shape}; a hyperparameter is one number. "
            "Use jax.vmap over the transformation to run several values."
        )
    return value.astype(leaf.accumulator_dtype(jnp.promote_types(value.dtype, jnp.float16)))


class _Run:
    """The jitted functions of one run of rules."""

    def __init__(self, spec: _Spec) -> None:
        self.spec = spec
        holes = [None] * sum(x is None for x in spec[1])
        self.rules: tuple[Leafwise, ...] = _merge(spec, holes)
        self.traced = [
            tuple(name for name in rule._dynamic if not leaf.is_number(getattr(rule, name))) for rule in self.rules
        ]
        self.needs_params = any("params" in rule.needs for rule in self.rules)
        self.begin = jax.jit(self._begin)
        self.measure = jax.jit(self._measure)
        self.step = jax.jit(self._step, static_argnums=(0, 1))

    def _begin(self, arrays: Sequence[Any], counts: Sequence[Array]) -> tuple[list[Any], list[Array], list[Any]]:
        """Of each rule: its traced hyperparameters, its count after this step, and what its leaves share.

        A full counter stays full.
        """
        counts = [jnp.minimum(count, jnp.iinfo(jnp.int32).max - 1) for count in counts]
        hypers = [
            [_resolve(rule, name, count) for name in names]
            for rule, names, count in zip(_merge(self.spec, arrays), self.traced, counts, strict=True)
        ]
        counts = [count + 1 for count in counts]
        return hypers, counts, [self._rule(i, hypers[i]).at_step(t) for i, t in enumerate(counts)]

    def _rule(self, i: int, hypers: Sequence[Any]) -> Leafwise:
        return self.rules[i]._filled(self.traced[i], hypers)

    def _measure(self, hypers: Any, updates: Any, slots: Any, params: Any, t: Array, extra: dict[str, Any]) -> Any:
        rule: Any = self._rule(0, hypers)
        updates, slots, params = jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), (updates, slots, params))
        return rule.measure(updates, slots, params, t, **extra)

    def _step(
        self, active: Sequence[int], out: Any, hypers: Any, g: Any, slots: Any, p: Any, shared: Any
    ) -> tuple[Array, list[Any]]:
        """One leaf through the rules that apply to it; the update comes in dtype `out`, or as wide as computed."""
        g = jnp.asarray(g)
        # All that meets the gradient is as wide as it is, and float32 at least.
        dtype = leaf.compute_dtype(g.dtype)
        u, p = leaf.widen(g, dtype), None if p is None else leaf.widen(jnp.asarray(p), dtype)
        slots = list(slots)
        for i in active:
            rule = self._rule(i, hypers[i])
            with _plain_operators(rule):
                u, new = rule.update_leaf(u, [leaf.widen(x, dtype) for x in slots[i]], p, shared[i])
            if np.shape(u) != g.shape:
                raise TypeError(
                    f"{type(rule).__name__}.update_leaf returned an update of shape {np.shape(u)} for a gradient "
                    f"of shape {g.shape}."
                )
            slots[i] = [leaf.narrow(new, old.dtype) for new, old in zip(new, slots[i], strict=True)]
        return leaf.narrow(u, u.dtype if out is None else out), slots


def _plain_operators(rule: Leafwise) -> AbstractContextManager[Any]:
    """Traces the operators of `jax.numpy` as such, not each as a jitted function of its own.

    For every new leaf shape each of those would be traced and cached anew, only to be inlined
    here: that is most of the time it takes to trace a rule. Layerwise rules may contain loops,
    which must stay loops, so they are left alone.
    """
    return nullcontext() if isinstance(rule, Layerwise) else jax.disable_jit()


_run = lru_cache(maxsize=1024)(_Run)


def _compiled(rules: Sequence[Leafwise]) -> tuple[_Run, list[Any]]:
    """The jitted functions of a run, kept for its next use, and the arrays among its hyperparameters."""
    spec, arrays = _split(tuple(rules))
    return _run(spec), arrays
