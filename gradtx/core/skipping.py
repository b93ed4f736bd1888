"""Steps that may be skipped, without a branch.

Whether a step is taken is selected in the same pass that computes it. A selection at the end is not enough: for

    new = f(old, g);   update = h(new);   kept = select(taken, new, old)

XLA's CPU backend computes `new` twice, once for `kept` and once for the update, and copies `old` for the second. So
the slots of a rule are selected as soon as they are computed, and the rule continues with `kept`, which equals
`new` if the step is taken:

    kept = select(taken, f(old, g), old);   update = h(kept)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from gradtx import tree
from gradtx.core.branch import alike, branch
from gradtx.core.state import counted
from gradtx.types import Slots, State, Updates

__all__ = [
    "Skippable",
    "current",
    "or_one_more_skipped",
    "select_as_computed",
    "selected",
    "unless_skipped",
    "zeros_unless",
]

_NOTHING: Mapping[int, Any] = {}


class Skippable(NamedTuple):
    """A step that may be skipped."""

    taken: Array
    """Whether it is taken; known only while the program runs."""
    done: dict[int, tuple[Array, Array]]
    """The slots that are already selected, by `id`, each with the old one."""


_CURRENT: ContextVar[Skippable | None] = ContextVar("current", default=None)


def current() -> Skippable | None:
    """Returns the step that is being traced, if it may be skipped."""
    return _CURRENT.get()


@contextmanager
def _tracing(step: Skippable) -> Generator[None]:
    token = _CURRENT.set(step)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def unless_skipped(
    who: str, taken: Any, updates: Updates, state: State, attempt: Callable[[Any], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """Runs a step if `taken` is true; otherwise returns zero updates and the state unchanged.

    In a compiled step it is always computed, from zeros if it is skipped, so that derivatives are finite, too.

    Args:
      who: The name with which errors begin.
      taken: Whether to take the step: a boolean or a scalar array of one.
      updates: The updates that the step gets.
      state: The state before the step.
      attempt: A function from the updates to new updates and a new state.

    Returns:
      The updates and the state.
    """
    if not isinstance(taken, Tracer):
        return branch(who, taken, lambda: attempt(updates), lambda: (tree.zeros_like(updates), state))
    step = Skippable(taken, {})
    with _tracing(step):
        made = attempt(zeros_unless(taken, updates))
    return selected(who, taken, made, updates, state, step.done)


def zeros_unless(taken: Array, updates: Updates) -> Any:
    """Returns the updates if `taken`, else zeros."""
    return jax.tree.map(lambda u: jnp.where(taken, u, jnp.zeros_like(u)), updates)


def selected(
    who: str, taken: Array, made: Any, updates: Updates, state: State, done: Mapping[int, Any] = _NOTHING
) -> Any:
    """Returns `made`, updates and a state, if `taken`; else zeros and the old state. `done` holds what is already
    selected.
    """
    new, new_state = alike(who, made, (updates, state))

    def select(x: Array, old: Array) -> Array:
        already = x is old or (id(x) in done and done[id(x)][1] is old)
        return x if already else jnp.where(taken, x, old)

    return zeros_unless(taken, new), jax.tree.map(select, new_state, state)


def or_one_more_skipped(taken: Array, new: Any, old: Any) -> Any:
    """Returns the slots per tree after a step: `new` if `taken`, else `old` with one more step in `skipped`."""
    kept = jax.tree.map(lambda x, before: jnp.where(taken, x, before), new, old)
    return kept._replace(skipped=jnp.where(taken, old.skipped, counted(old.skipped)))


def _is_literal(var: Any) -> bool:
    return hasattr(var, "val")


def select_as_computed(rule: Callable[[Any, Any], Any], u: Any, slots: Slots, taken: Array) -> Any:
    """Evaluates `rule(u, slots)`, which returns an update and new slots, and keeps the old slots unless `taken`.

    The rule is evaluated operation by operation, and the old or the new slot is selected as soon as the new slot is
    computed.
    """
    closed, shape = jax.make_jaxpr(rule, return_shape=True)(u, slots)
    if not (isinstance(shape, tuple) and jax.tree.structure(shape[1:]) == jax.tree.structure((slots,))):
        return rule(u, slots)  # the engine raises for a wrong result
    jaxpr, old = closed.jaxpr, jax.tree.leaves(slots)
    updates, new = jaxpr.outvars[: len(jaxpr.outvars) - len(old)], jaxpr.outvars[len(jaxpr.outvars) - len(old) :]
    known = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    known |= dict(zip(jaxpr.invars, [*jax.tree.leaves(u), *old], strict=True))
    before = {var: x for var, x in zip(new, old, strict=True) if not _is_literal(var) and var not in known}

    def value(var: Any) -> Any:
        return var.val if _is_literal(var) else known[var]

    for equation in jaxpr.eqns:
        primitive = equation.primitive
        with equation.ctx.manager:
            result = primitive.bind(*map(value, equation.invars), **primitive.get_bind_params(equation.params))
        results = result if primitive.multiple_results else [result]
        for var, x in zip(equation.outvars, results, strict=True):
            known[var] = jnp.where(taken, x, before[var]) if var in before else x

    def kept(var: Any, x: Any) -> Any:
        selected = not _is_literal(var) and before.get(var) is x
        return value(var) if selected or value(var) is x else jnp.where(taken, value(var), x)

    return jax.tree.unflatten(
        jax.tree.structure(shape), [*map(value, updates), *(kept(*pair) for pair in zip(new, old, strict=True))]
    )
