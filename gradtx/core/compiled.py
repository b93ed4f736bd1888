"""Compiles neighbouring rules: one function for a step, and one for a leaf, traced once for each leaf shape.

In these functions Python numbers are static, so that `1 - b2` is computed in double precision; arrays, tracers and
the values of schedules are traced, in float32 or wider. A Python number that changes at every eager step (as after
`tx.replace(learning_rate=...)`) is traced from the second step on, so that no later step compiles anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx import checks, leaf, mesh
from gradtx.core import matrices, packed
from gradtx.core.branch import inlined, is_traced
from gradtx.core.hyper import Resolvable, resolve
from gradtx.core.skipping import select_as_computed
from gradtx.core.state import counted, stack_slots
from gradtx.types import Params, Slots, Updates

__all__ = ["Plan", "compiled"]

Plan = tuple[int, tuple[tuple[int, str, tuple[tuple[str, Any], ...]], ...]]
"""Where a pass begins among the rules, and for each rule that acts its position in the pass, its hook and its facts."""

# The key of a run: the treedef of its rules, and their Python numbers, with None in place of arrays.
_Spec = tuple[Any, tuple[Any, ...]]


class _Run:
    """The jitted functions of one run of rules."""

    def __init__(self, spec: _Spec) -> None:
        self.spec = spec
        holes = [None] * sum(x is None for x in spec[1])
        self.rules: tuple[Any, ...] = _merge(spec, holes)
        self.traced = [
            tuple(name for name in rule._dynamic if not _is_constant(getattr(rule, name))) for rule in self.rules
        ]
        self.begin = inlined(self._begin)
        self.measure = inlined(self._measure, static_argnums=0)
        self.step = jax.jit(self._step, static_argnums=(0, 1))
        self.step_of_one = inlined(self._step, static_argnums=(0, 1))
        self.stack = jax.jit(self._stack, static_argnums=(0, 1))

    def _begin(
        self, arrays: Sequence[Any], counts: Sequence[Array], numbers: Sequence[Any], given: Sequence[Any]
    ) -> tuple[list[Any], list[Array], list[Any], list[Any]]:
        """Returns for each rule: its traced hyperparameters, its count after this step, what its leaves share, its
        numbers.

        What leaves share is known later for a rule that measures.
        """
        after = [counted(count) for count in counts]
        hypers = [
            [resolve(rule, name, t - 1) for name in names]
            for rule, names, t in zip(_merge(self.spec, arrays), self.traced, after, strict=True)
        ]
        shared, new = [], []
        for i, (t, old, extra) in enumerate(zip(after, numbers, given, strict=True)):
            rule = self._rule(i, hypers[i])
            both = (None, old) if rule._measures else rule.at_step(t, old, **extra)
            share, numbers_after = _pair(rule, "at_step", both, old, "what leaves share")
            shared.append(share)
            new.append(packed.kept(numbers_after, old))
        return hypers, after, shared, new

    def _rule(self, i: int, hypers: Sequence[Any]) -> Any:
        return self.rules[i]._filled(self.traced[i], hypers)

    def _measure(
        self,
        i: int,
        hypers: Any,
        updates: Updates,
        slots: Slots,
        numbers: Any,
        params: Params,
        t: Array,
        extra: dict[str, Any],
    ) -> tuple[Any, Any]:
        updates, params = jax.tree.map(lambda x: leaf.widen(jnp.asarray(x)), (updates, params))
        slots = packed.loaded(slots)
        rule = self._rule(i, hypers)
        both = rule.measure(updates, slots, numbers, params, t, **extra)
        shared, new = _pair(rule, "measure", both, numbers, "what leaves share")
        return shared, packed.kept(new, numbers)

    def _step(
        self,
        plan: Plan,
        out: Any,
        hypers: Any,
        g: Any,
        slots: Slots,
        p: Any,
        shared: Any,
        here: Any,
        before: Any,
        taken: Any,
    ) -> tuple[Array, list[Any]]:
        """Takes one leaf through the rules that apply to it; the update has dtype `out`, or is as wide as computed.

        `taken` is None if no step is skipped; otherwise slots are unchanged unless it is true.
        """
        g = jnp.asarray(g)
        # Everything that is combined with the gradient has its width, at least float32.
        dtype = leaf.compute_dtype(g.dtype)
        u, p = leaf.widen(g, dtype), None if p is None else leaf.widen(jnp.asarray(p), dtype)
        slots, (start, acting) = list(slots), plan
        for i, hook, facts in acting:
            rule = self._rule(start + i, _no_wider(hypers[i], dtype))
            known = {**dict(facts), **{name: leaf.widen(x, dtype) for name, x in here[i].items()}}
            if hook == "to_stack":
                known = {}
            elif hook == "update_leaf after a stack":
                known["before"] = before
            name = "to_stack" if hook == "to_stack" else "update_leaf"
            p_seen = p if "params" in rule.needs else None
            act = partial(_act, getattr(rule, name), p_seen, _no_wider(shared[i], dtype), known)
            with _plain_operators(rule):
                old = packed.loaded(slots[i], dtype)
                result = act(u, old) if taken is None else select_as_computed(act, u, old, taken)
            u, new = _pair(rule, name, result, old, "the update")
            if np.shape(u) != g.shape:
                raise TypeError(
                    f"{type(rule).__name__}.{name} returned an update of shape {np.shape(u)} for a gradient of shape "
                    f"{g.shape}."
                )
            slots[i] = packed.kept(new, slots[i], taken)
        return leaf.narrow(u, u.dtype if out is None else out), slots

    def _stack(
        self, i: int, views: Sequence[Any], hypers: Any, values: Any, rows: Any, shared: Any, t: Array
    ) -> tuple[list[Array], list[Any]]:
        """Returns the leaves and slots after the rule's work on stacks of their matrices."""
        work = partial(self._on_stacks, i, views)
        return mesh.automatic(work, hypers, values, rows, shared, t, like=(values, rows))

    def _on_stacks(
        self, i: int, views: Sequence[Any], hypers: Any, values: Any, rows: Any, shared: Any, t: Array
    ) -> tuple[list[Array], list[Any]]:
        cls = stack_slots(self.rules[i].State)

        def work(x: Array, old: Any, t: Array) -> tuple[Array, Any]:
            dtype = leaf.compute_dtype(x.dtype)
            rule, here = self._rule(i, _no_wider(hypers, dtype)), _no_wider(shared, dtype)
            n, (x, old) = len(x), mesh.divided((x, old))
            slots = jax.tree.map(lambda a: leaf.widen(a, dtype), old)
            slots = matrices.renew(rule, "before", x, slots, here, t)
            y, new = _pair(rule, "on_stack", rule.on_stack(x, slots, here), old, "the matrices")
            new = matrices.renew(rule, "after", x, new, here, t)
            return mesh.united((y, packed.kept(new, old)), n)

        before = [cls(*(getattr(row, name) for name in cls._fields)) for row in rows]
        done, after = matrices.on_stacks(work, views, values, packed.unpacked(before), t)
        restored = [x if view is None else view.restored(x) for x, view in zip(done, views, strict=True)]
        after = map(packed.kept, after, before)
        return restored, [row._replace(**new._asdict()) for row, new in zip(rows, after, strict=True)]


def _act(hook: Any, p: Any, shared: Any, known: dict[str, Any], u: Any, slots: Slots) -> Any:
    return hook(u, slots, p, shared, **known)


def _no_wider(numbers: Any, dtype: Any) -> Any:
    """Casts numbers so that they are no wider than their leaf: `jax_enable_x64` would make float32 leaves float64."""
    return jax.tree.map(lambda x: leaf.narrow(x, dtype) if _is_wider(x, dtype) else x, numbers)


def _is_wider(x: Any, dtype: Any) -> bool:
    return isinstance(x, Array) and jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize > dtype.itemsize


def _pair(rule: Any, hook: str, result: Any, old: Any, what: str) -> tuple[Any, Any]:
    """Checks the two items that a hook must return; the second must be like `old`."""
    who, argument = f"{type(rule).__name__}.{hook}", "numbers" if hook in ("at_step", "measure") else "slots"
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(f"{who} returned {checks.shown(result)}: return a pair, {what} and the next {argument}.")
    new = result[1]
    if type(new) is not type(old):
        fields = ", ".join(old._fields) or f"none: it has no {argument}"
        raise TypeError(
            f"{who} returned {checks.shown(new)} for its {argument}: return `{argument}` as they came, or "
            f"{argument}._replace(...) with new values for {fields}."
        )
    for name, before, after in zip(old._fields, old, new, strict=True):
        if isinstance(before, Array) and isinstance(after, Array) and before.shape == after.shape:
            continue
        wanted, found = jax.tree.map(np.shape, before), jax.tree.map(np.shape, after)
        if wanted != found:
            raise TypeError(f"{who} returned {argument}.{name} with the shape {found}; it has the shape {wanted}.")
    return result


def _plain_operators(rule: Any) -> AbstractContextManager[Any]:
    """Traces the operators of `jax.numpy` directly, not each as a jitted function of its own.

    For every new leaf shape each of these functions would be traced and cached again, only to be inlined here; that
    is most of the time it takes to trace a rule. Loops must stay loops, so rules that may contain them are left
    alone.
    """
    return nullcontext() if rule._loops else jax.disable_jit()


def _is_constant(value: Any) -> bool:
    """Whether a hyperparameter is known when a rule is compiled."""
    return leaf.is_number(value) or (isinstance(value, Resolvable) and value.constant)


def _merge(spec: _Spec, arrays: Sequence[Any]) -> Any:
    treedef, key = spec
    rest = iter(arrays)
    return treedef.unflatten([next(rest) if x is None else x for x in key])


_run = lru_cache(maxsize=1024)(_Run)


def compiled(rules: tuple[Any, ...], updates: Updates) -> tuple[_Run, list[Any]]:
    """Returns the jitted functions of a run, kept for its next use, and the arrays among its hyperparameters."""
    leaves, treedef = jax.tree.flatten(rules)
    key = tuple(x if leaf.is_number(x) else None for x in leaves)
    arrays = [x for x in leaves if not leaf.is_number(x)]
    if not is_traced((arrays, updates)):
        key = _eager.key(treedef, key)
        arrays = [
            np.asarray(x, float) if leaf.is_number(x) else x for x, n in zip(leaves, key, strict=True) if n is None
        ]
    return _run((treedef, key)), arrays


class _Places:
    """The numbers that eager steps have used, for rules of one structure.

    For each place it holds the numbers that are compiled in, up to `LIMIT`, and the numbers of the last step.
    """

    LIMIT = 8

    def __init__(self, size: int) -> None:
        self.static: list[set[Any]] = [set() for _ in range(size)]
        self.last: tuple[Any, ...] = (None,) * size
        self.steps = 0
        """Number of steps since the numbers last changed."""

    def kept(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the numbers of a new key that stay static, with None in place of the others."""
        changing = [self.steps == 1 and last != x for last, x in zip(self.last, key, strict=True)]
        kept = tuple(
            x if not now and (x in static or len(static) < self.LIMIT) else None
            for x, static, now in zip(key, self.static, changing, strict=True)
        )
        for x, static in zip(kept, self.static, strict=True):
            static.update(() if x is None else (x,))
        return kept

    def step(self, key: tuple[Any, ...]) -> None:
        self.steps = self.steps + 1 if key == self.last else 1
        self.last = key


class _EagerNumbers:
    """The numbers of eager steps.

    A number that changes from one step to the next is traced, and so is one more than `_Places.LIMIT` in one place.
    """

    _SIZE = 4096

    def __init__(self) -> None:
        self.keys: OrderedDict[Any, tuple[Any, ...]] = OrderedDict()
        self.places: OrderedDict[Any, _Places] = OrderedDict()

    def key(self, treedef: Any, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the numbers that stay static, with None in place of numbers to be traced."""
        places = self.places.setdefault(treedef, _Places(len(key)))
        if (treedef, key) not in self.keys:
            self.keys[treedef, key] = places.kept(key)
        places.step(key)
        known = self.keys[treedef, key]
        for memory in (self.keys, self.places):
            while len(memory) > self._SIZE:
                memory.popitem(last=False)
        return known


_eager = _EagerNumbers()
