"""The engine: runs rules for one leaf over trees.

Neighbouring rules run as one jitted call per leaf, traced once for each leaf shape. In that call
Python numbers are static, so that `1 - b2` is taken in double precision; arrays, tracers and the
values of schedules are traced, in float32 or wider. Before the leaves, one jitted call a step
calls the schedules, counts, and computes what the leaves share; a rule that measures adds one.

A rule is a `core.leafwise.Leafwise`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf
from gradtx.core.bound import Bound
from gradtx.core.hyper import Schedule
from gradtx.core.state import counted, fields
from gradtx.core.value import Value

__all__ = ["EachLeaf", "resolve", "run_update"]


@jax.tree_util.register_pytree_node_class
class EachLeaf:
    """What a `measure` returns to give every leaf its own: one item for each leaf of the updates, in order."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = tuple(items)

    def tree_flatten(self) -> tuple[Any, None]:
        return self.items, None

    @classmethod
    def tree_unflatten(cls, aux: None, items: Any) -> EachLeaf:
        del aux
        return cls(items)


def run_update(
    rules: Sequence[Any], updates: Any, states: Sequence[Any], params: Any, extra: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """Updates and new states of neighbouring rules: one pass over the leaves, and one more for each rule that measures.

    Between the passes updates stay in float32 or wider.
    """
    leaves, treedef = jax.tree.flatten(updates)
    columns, p_leaves = _check(rules, updates, leaves, treedef, states, params, extra)
    if params is None and not leaves:
        params = updates  # without leaves nobody needs to give them, and they are as empty
    dtypes = [jnp.result_type(g) for g in leaves]
    new_states: list[Any] = []
    starts = [0, *(i for i, rule in enumerate(rules) if i and rule.measures), len(rules)]
    for start, stop in itertools.pairwise(starts):
        part = slice(start, stop)
        run, arrays = _compiled(rules[part])
        hypers, counts, shared = run.begin(arrays, [state.count for state in states[part]])
        once: list[tuple[Any, ...]] = [()] * len(counts)
        if rules[start].measures:
            given = {name: extra.get(name) for name in rules[start].extra_args}
            slots, once[0] = _divided(states[start])
            tree = (treedef.unflatten(leaves), slots, once[0], params if run.needs_params else None)
            shared[0], once[0] = run.measure(hypers[0], *tree, counts[0], given)
        shared = [x.items if isinstance(x, EachLeaf) else itertools.repeat(x, len(leaves)) for x in shared]
        active = _active(rules[part], updates if params is None else params, len(leaves))
        outs = dtypes if stop == len(rules) else [None] * len(leaves)
        p_part = p_leaves if run.needs_params else [None] * len(leaves)
        rows = [zip(*column, strict=True) if column else [()] * len(leaves) for column in columns[part]]
        steps = [
            run.step(which, out, hypers, g, slots, p, shares)
            for which, out, g, p, shares, slots in zip(
                active, outs, leaves, p_part, zip(*shared, strict=True), zip(*rows, strict=True), strict=True
            )
        ]
        leaves = [u for u, _ in steps]
        for i, (state, count) in enumerate(zip(states[part], counts, strict=True)):
            names = fields(type(state)).leaf
            new_columns = zip(*(new[i] for _, new in steps), strict=True) if steps else ((),) * len(names)
            new_states.append(type(state)(count, *map(treedef.unflatten, new_columns), *once[i]))
    return treedef.unflatten(leaves), new_states


def _divided(state: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A state's trees of slots, and what it keeps once."""
    stop = 1 + len(fields(type(state)).leaf)
    return tuple(state[1:stop]), tuple(state[stop:])


def _check(
    rules: Sequence[Any],
    updates: Any,
    leaves: Sequence[Any],
    treedef: Any,
    states: Sequence[Any],
    params: Any,
    extra: dict[str, Any],
) -> tuple[list[list[Any]], Sequence[Any]]:
    """Raises unless the arguments fit together; the slots' leaves by rule and field, and the parameters'."""
    for rule in rules:
        if leaves:
            given = {**extra, "params": params}
            checks.needed(type(rule).__name__, **{name: given.get(name) for name in rule.needs})
    who = " + ".join(type(rule).__name__ for rule in rules)
    checks.floating(who, "updates", updates, leaves)
    for rule in rules:
        if rule.real:
            checks.real(type(rule).__name__, "updates", updates, leaves)
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
        slots = zip(fields(rule.State).leaf, _divided(state)[0], strict=True)
        columns.append([_column(who, rule, name, updates, leaves, treedef, tree) for name, tree in slots])
    return columns, p_leaves


_OTHER_STATE = (
    "The two belong to different parameters: pass updates like the params that tx.init got, or the state that it made "
    "for these."
)


def _column(who: str, rule: Any, name: str, updates: Any, leaves: Any, treedef: Any, tree: Any) -> list[Any]:
    """The leaves of one state field, checked against the updates."""
    try:
        column = treedef.flatten_up_to(tree)
    except ValueError:
        raise checks.tree_mismatch(who, "updates", updates, f"state.{name}", tree) from None
    if name in fields(rule.State).like:
        checks.same_shapes(who, "updates", updates, leaves, f"state.{name}", column, _OTHER_STATE)
    return column


def _active(rules: Sequence[Any], params: Any, n: int) -> Sequence[tuple[int, ...]]:
    """For each leaf, the positions of the rules that apply to it."""
    masks = [rule.where(params) for rule in rules]
    if all(mask is None for mask in masks):
        return [tuple(range(len(rules)))] * n
    return [tuple(i for i, mask in enumerate(masks) if mask is None or mask[place]) for place in range(n)]


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


def resolve(rule: Any, name: str, count: Any) -> Any:
    """A hyperparameter as a rule sees it: a Python number, or a scalar array in float32 or wider."""
    value = getattr(rule, name)
    if isinstance(value, Schedule):
        value = value(count)
    if isinstance(value, Bound):
        return value.at(count)
    if value is None or isinstance(value, Value) or leaf.is_number(value):
        return value
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"{type(rule).__name__}: {name} has shape {value.shape}; a hyperparameter is one number. "
            "Use jax.vmap over the transformation to run several values."
        )
    return value.astype(leaf.accumulator_dtype(jnp.promote_types(value.dtype, jnp.float16)))


def _is_constant(value: Any) -> bool:
    """Whether a hyperparameter is known when a rule is compiled."""
    return leaf.is_number(value) or (isinstance(value, Bound) and value.constant)


class _Run:
    """The jitted functions of one run of rules."""

    def __init__(self, spec: _Spec) -> None:
        self.spec = spec
        holes = [None] * sum(x is None for x in spec[1])
        self.rules: tuple[Any, ...] = _merge(spec, holes)
        self.traced = [
            tuple(name for name in rule._dynamic if not _is_constant(getattr(rule, name))) for rule in self.rules
        ]
        self.needs_params = any("params" in rule.needs for rule in self.rules)
        self.begin = jax.jit(self._begin)
        self.measure = jax.jit(self._measure)
        self.step = jax.jit(self._step, static_argnums=(0, 1))

    def _begin(self, arrays: Sequence[Any], counts: Sequence[Array]) -> tuple[list[Any], list[Array], list[Any]]:
        """Of each rule: its traced hyperparameters, its count after this step, and what its leaves share."""
        after = [counted(count) for count in counts]
        hypers = [
            [resolve(rule, name, t - 1) for name in names]
            for rule, names, t in zip(_merge(self.spec, arrays), self.traced, after, strict=True)
        ]
        return hypers, after, [self._rule(i, hypers[i]).at_step(t) for i, t in enumerate(after)]

    def _rule(self, i: int, hypers: Sequence[Any]) -> Any:
        return self.rules[i]._filled(self.traced[i], hypers)

    def _measure(
        self, hypers: Any, updates: Any, slots: Any, once: Any, params: Any, t: Array, extra: dict[str, Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        rule: Any = self._rule(0, hypers)
        updates, slots, params = jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), (updates, slots, params))
        shared, new = rule.measure(updates, slots, once, params, t, **extra)
        return shared, tuple(leaf.narrow(x, old.dtype) for x, old in zip(new, once, strict=True))

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
                u, new = rule.update_leaf(u, jax.tree.map(lambda x: leaf.widen(x, dtype), slots[i]), p, shared[i])
            if np.shape(u) != g.shape:
                raise TypeError(
                    f"{type(rule).__name__}.update_leaf returned an update of shape {np.shape(u)} for a gradient "
                    f"of shape {g.shape}."
                )
            slots[i] = jax.tree.map(lambda old, x: leaf.narrow(x, old.dtype), slots[i], tuple(new))
        return leaf.narrow(u, u.dtype if out is None else out), slots


def _plain_operators(rule: Any) -> AbstractContextManager[Any]:
    """Traces the operators of `jax.numpy` as such, not each as a jitted function of its own.

    For every new leaf shape each of those would be traced and cached anew, only to be inlined
    here: that is most of the time it takes to trace a rule. Loops must stay loops, so rules that
    may contain them are left alone.
    """
    return nullcontext() if rule.may_loop else jax.disable_jit()


_run = lru_cache(maxsize=1024)(_Run)


def _compiled(rules: Sequence[Any]) -> tuple[_Run, list[Any]]:
    """The jitted functions of a run, kept for its next use, and the arrays among its hyperparameters."""
    spec, arrays = _split(tuple(rules))
    return _run(spec), arrays
