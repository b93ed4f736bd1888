"""The engine: applies rules, which are written for one leaf, to whole trees.

It runs rules that follow each other in a chain (subclasses of `core.leafwise.Leafwise`). A step has these parts:

    begin       one jitted call: calls the schedules, counts, and computes what the leaves share (`at_step`)
    measure     one jitted call for a rule that looks at the whole tree
    a pass      one jitted call per leaf, in which the leaf goes through all rules of the pass (`update_leaf`)
    stack       one jitted call for a rule that works on all matrices of one shape at once (`on_stack`)

Most steps are one `begin` and one pass. A rule that measures begins a new pass, for itself and the rules after it. A
rule on stacks splits the passes: `to_stack` prepares its matrices at the end of one, `on_stack` transforms them, and
`update_leaf` receives the result at the start of the next. No rule does both; `Leafwise` refuses that. The jitted
functions are in `core/compiled.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx import checks
from gradtx.core import skipping
from gradtx.core.compiled import Plan, compiled
from gradtx.core.shared import at_leaf, is_by_leaf
from gradtx.core.state import declared, leaf_slots, tree_slots
from gradtx.types import Params, State, Updates

__all__ = ["run_update"]


_NOTHING: dict[str, Any] = {}


class _Known(NamedTuple):
    """What one rule knows about each leaf, beside its slots."""

    where: Sequence[bool] | None
    """Whether it applies to each leaf; None if it applies to all."""
    facts: dict[str, list[Any]]
    """By name, one item per leaf, for each `per_leaf` field and each extra argument that is given by leaf."""
    views: Sequence[Any]
    """How a rule on stacks sees each leaf as matrices."""

    def static(self, i: int) -> tuple[tuple[str, Any], ...]:
        """Returns what is known about leaf `i` while compiling."""
        return tuple((name, items[i]) for name, items in self.facts.items() if not _is_traced(items[i]))

    def arrays(self, i: int) -> dict[str, Any]:
        """Returns what else is known about leaf `i`: arrays, which are traced."""
        return {name: items[i] for name, items in self.facts.items() if _is_traced(items[i])}


def _is_traced(x: Any) -> bool:
    return isinstance(x, (jax.Array, np.ndarray))


def run_update(
    rules: Sequence[Any], updates: Updates, states: Sequence[Any], params: Params, extra: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """Returns the updates and new states of rules that follow each other.

    It makes one pass over the leaves, and one more for each rule that works on stacks, or that measures and is not
    the first. Between the passes updates stay in float32 or wider.
    """
    step = _Step(rules, updates, states, params, extra)
    for start, stop in _passes(rules):
        step.measure(start)
        step.go_over_leaves(start, stop)
        step.work_on_stacks(stop)
    return step.result()


def _passes(rules: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Returns where passes begin and end: a rule that measures begins one; a rule on stacks ends one and begins the
    next.
    """
    # If the first rule works on stacks, it ends a pass in which only its `to_stack` runs.
    starts = [i for i, rule in enumerate(rules) if rule._stack_field is not None or (i and rule._measures)]
    return itertools.pairwise([0, *starts, len(rules)])


class _Step:
    """A step of rules that follow each other, as far as it is computed.

    Lists are by rule, as in `shared[k]`, or by leaf, as in `values[i]`; `slots[k][i]` has the slots of rule k at
    leaf i.
    """

    def __init__(
        self, rules: Sequence[Any], updates: Updates, states: Sequence[Any], params: Params, extra: dict[str, Any]
    ) -> None:
        self.values, self.treedef = jax.tree.flatten(updates)
        if params is None and not self.values:
            params = updates  # for an empty tree params may be left out, and `updates`, which is empty, replaces them
        self.rules, self.states, self.params, self.extra = rules, states, params, extra
        self.p_leaves = _checked_params(rules, updates, self.values, self.treedef, params, extra)
        self.known = [_knows(rule, updates, updates if params is None else params, extra) for rule in rules]
        self.slots = [_rows(rule, state, self.treedef) for rule, state in zip(rules, states, strict=True)]
        self.dtypes = [jnp.result_type(g) for g in self.values]
        self.stack_inputs: Sequence[Any] | None = None
        """By leaf, the input of the last rule on stacks, until `update_leaf` has seen it beside the result."""

        self.skippable = skipping.current()
        self.compiled, arrays = compiled(tuple(rules), updates)
        pairs = list(zip(rules, states, strict=True))
        numbers = [tree_slots(rule.State)(*_fields(tree_slots, state)) for rule, state in pairs]
        given = [{name: extra.get(name) for name in rule.extra_args.difference(rule._by_leaf)} for rule in rules]
        counts = [state.count for state in states]
        self.hypers, self.counts, self.shared, self.numbers = self.compiled.begin(arrays, counts, numbers, given)

    def measure(self, i: int) -> None:
        """Lets rule `i` look at the whole tree, if it measures."""
        if i == len(self.rules) or not self.rules[i]._measures:  # with no rules, their number is 0
            return
        rule = self.rules[i]
        slots = leaf_slots(rule.State)(*_fields(leaf_slots, self.states[i]))
        params = self.params if "params" in rule.needs else None
        given = {name: self.extra.get(name) for name in rule.extra_args}
        updates = self.treedef.unflatten(self.values)
        self.shared[i], self.numbers[i] = self.compiled.measure(
            i, self.hypers[i], updates, slots, self.numbers[i], params, self.counts[i], given
        )

    def go_over_leaves(self, start: int, stop: int) -> None:
        """Takes every leaf through the rules from `start` to `stop`, and into the stacks of rule `stop`."""
        to_stack = stop < len(self.rules) and self.rules[stop]._stack_field is not None
        part = range(start, stop + to_stack)
        known, slots = self.known[start : part.stop], self.slots[start : part.stop]
        hypers, shared = self.hypers[start : part.stop], self.shared[start : part.stop]
        # Usually all leaves are treated the same: then one plan is used for all.
        alike = all(each.where is None and not each.facts for each in known)
        plan, arrays = self._plan(part, 0, to_stack) if alike else None, [_NOTHING] * len(part)
        some_by_leaf = is_by_leaf(shared)
        last = stop == len(self.rules)
        values: list[Any] = []
        step = self.compiled.step if len(self.values) > 1 else self.compiled.step_of_one
        for i, g in enumerate(self.values):
            if not alike:
                plan, arrays = self._plan(part, i, to_stack), [each.arrays(i) for each in known]
            before = None if self.stack_inputs is None else self.stack_inputs[i]
            try:
                u, new = step(
                    plan,
                    self.dtypes[i] if last else None,
                    hypers,
                    g,
                    [rows[i] for rows in slots],
                    self.p_leaves[i],
                    at_leaf(shared, i) if some_by_leaf else shared,
                    arrays,
                    before,
                    self.skippable and self.skippable.taken,
                )
            except Exception as error:  # a rule only sees its leaf, so its error cannot name the leaf
                error.add_note(f"This is {_names([self.rules[k] for k in part])} {self._place(i)}.")
                raise
            values.append(u)
            for rows, row in zip(slots, new, strict=True):
                if self.skippable:
                    both = zip(jax.tree.leaves(row), jax.tree.leaves(rows[i]), strict=True)
                    self.skippable.done.update((id(x), (x, old)) for x, old in both)
                rows[i] = row  # the slice of `self.slots` shares its lists, so this changes them
        self.values, self.stack_inputs = values, None

    def _place(self, i: int) -> str:
        """Describes leaf `i`."""
        path, x = jax.tree_util.tree_leaves_with_path(self.treedef.unflatten(self.values))[i]
        return f"at the leaf {checks.keystr(path)}, {checks.shown(x)}"

    def _plan(self, part: range, i: int, to_stack: bool) -> Plan:
        """Returns what the rules of a pass do to leaf `i`: the rules that apply to it, by their position in the
        pass.
        """
        plan: list[tuple[int, str, Any]] = []
        for k in part:
            known = self.known[k]
            if known.where is None or known.where[i]:
                hook = "update_leaf"
                if to_stack and k == part[-1]:
                    hook = "to_stack"
                elif self.stack_inputs is not None and k == part[0]:
                    hook = "update_leaf after a stack"
                plan.append((k - part.start, hook, known.static(i)))
        return part.start, tuple(plan)

    def work_on_stacks(self, i: int) -> None:
        """Lets rule `i` work on all matrices of one shape at once, if it works on stacks."""
        if i == len(self.rules) or self.rules[i]._stack_field is None:
            return
        where = self.known[i].where or [True] * len(self.values)
        views = tuple(view if yes else None for view, yes in zip(self.known[i].views, where, strict=True))
        self.stack_inputs = self.values
        self.values, self.slots[i] = self.compiled.stack(
            i, views, self.hypers[i], self.values, self.slots[i], self.shared[i], self.counts[i]
        )

    def result(self) -> tuple[Any, list[Any]]:
        """Returns the updates and the next states."""
        states: list[Any] = []
        for rule, count, rows, numbers in zip(self.rules, self.counts, self.slots, self.numbers, strict=True):
            names, slots = leaf_slots(rule.State)._fields, declared(rule.State)
            trees = {
                name: self.treedef.unflatten([row[n] for row in rows]) if slots[name].present(rule) else ()
                for n, name in enumerate(names)
            }
            states.append(rule.State(count=count, **trees, **numbers._asdict()))
        return self.treedef.unflatten(self.values), states


def _fields(kind: Any, state: State) -> tuple[Any, ...]:
    """Returns the fields of a state that `leaf_slots` or `tree_slots` has."""
    return tuple(getattr(state, name) for name in kind(type(state))._fields)


# --- before any work


def _checked_params(
    rules: Sequence[Any],
    updates: Updates,
    leaves: Sequence[Any],
    treedef: Any,
    params: Params,
    extra: dict[str, Any],
) -> Sequence[Any]:
    """Returns the parameters' leaves, or None for each if no rule needs them; raises unless the arguments fit
    together.
    """
    for rule in rules:
        if leaves and rule.needs:
            given = {**extra, "params": params}
            checks.needed(type(rule).__name__, **{name: given.get(name) for name in rule.needs})
    who = _names(rules)
    checks.floating(who, "updates", updates, leaves)
    for rule in rules:
        if rule.real:
            checks.real(type(rule).__name__, "updates", updates, leaves)
    p_leaves: Sequence[Any] = [None] * len(leaves)
    if params is not None:
        p_leaves, p_treedef = jax.tree.flatten(params)
        if p_treedef != treedef:
            raise checks.tree_mismatch(who, "updates", updates, "params", params)
        checks.same_shapes(who, "updates", updates, leaves, "params", p_leaves)
    return p_leaves if any("params" in rule.needs for rule in rules) else [None] * len(leaves)


def _names(rules: Sequence[Any]) -> str:
    return " + ".join(type(rule).__name__ for rule in rules)


def _rows(rule: Any, state: State, treedef: Any) -> list[Any]:
    """Returns the slots of each leaf; () in place of a slot that the state does not have."""
    cls, slots = leaf_slots(rule.State), declared(rule.State)
    columns = [
        treedef.flatten_up_to(getattr(state, name)) if slots[name].present(rule) else [()] * treedef.num_leaves
        for name in cls._fields
    ]
    return list(map(cls, *columns)) if columns else [cls()] * treedef.num_leaves


def _knows(rule: Any, updates: Updates, params: Params, extra: dict[str, Any]) -> _Known:
    by_field = {**rule._facts(params), **_extra_by_leaf(type(rule).__name__, rule._by_leaf, updates, extra)}
    views = by_field.pop(rule._stack_field, [None] * len(jax.tree.leaves(updates)))  # its field, if it has stacks
    return _Known(rule._where(params), by_field, views)


def _extra_by_leaf(who: str, names: Sequence[str], updates: Updates, extra: dict[str, Any]) -> dict[str, list[Any]]:
    """Maps each extra argument by leaf to its leaves, after checking its tree against the updates."""
    found: dict[str, list[Any]] = {}
    for name in names:
        value = extra.get(name)
        if (
            name == "index"
        ):  # the position of each leaf, as an array: it is traced, so that leaves share one compilation
            found[name] = [np.asarray(i, np.int32) for i in range(len(jax.tree.leaves(updates)))]
        elif value is None:
            found[name] = [None] * len(jax.tree.leaves(updates))
        else:
            checks.same_tree(who, name, value, "updates", updates)
            checks.floating(who, name, value, jax.tree.leaves(value))
            found[name] = list(map(jnp.asarray, jax.tree.leaves(value)))
    return found
