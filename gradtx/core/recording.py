"""A step of a transformation, with what goes into each transformation inside it and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gradtx.core.branch import is_traced
from gradtx.core.chain import chain
from gradtx.core.composite import Composite, Wrapper
from gradtx.core.links import applies, full_name, parts
from gradtx.core.metrics import own_metrics
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import static
from gradtx.types import Params, State, Updates

__all__ = ["Call", "Spec", "picked", "watched"]


class Spec:
    """What is known of a transformation before the step: its name, and the chosen leaves among those it sees."""

    def __init__(self, name: str, tx: GradientTransformation, at: Any, paths: Any, masked: Any, stack: Any) -> None:
        self.name, self.tx, self.at, self.paths, self.masked, self.stack = name, tx, at, paths, masked, stack
        self.opaque = ""
        """Why its inside is not shown."""


class Call:
    """One call of a transformation, and those that it made."""

    def __init__(self, spec: Spec, updates: Updates) -> None:
        self.spec, self.calls = spec, list[Call]()
        self.traced = is_traced(updates)
        self.before = None if self.traced else picked(updates, spec.at)
        self.after: Any = None
        self.numbers: dict[str, float] = {}

    def done(self, new: Any, before: Any, after: Any) -> None:
        """Notes the result, the hyperparameters for the state before it, and the metrics of the state after it."""
        if not (self.traced or is_traced((new, before, after))):
            self.after = picked(new, self.spec.at)
            own = {name: x for name, x in self.spec.tx._hyperparameters(before) if "." not in name}
            known = own if not isinstance(self.spec.tx, chain) else {}
            found = known | own_metrics(after)
            self.numbers = {name: float(x) for name, x in found.items() if np.ndim(x) == 0 and not callable(x)}


class recorder(Wrapper):
    """`inner`, whose calls are noted."""

    spec: Any = static()

    @property
    def foreign(self) -> bool:
        return self.inner.foreign

    def largest(self, incoming: float, most: float) -> float:
        return self.inner.largest(incoming, most)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        stack = self.spec.stack
        call = Call(self.spec, updates)
        stack[-1].calls.append(call)
        stack.append(call)
        try:
            new, after = self.inner_update(updates, state, params, extra)
        finally:
            stack.pop()
        call.done(new, state, after)
        return new, after


def watched(
    tx: GradientTransformation, name: str, params: Params, positions: Any, chosen: dict[int, str], stack: list[Any]
) -> GradientTransformation:
    """Returns `tx` with a recorder around it and around each inner transformation that sees unmodified parameters."""
    name = full_name(tx, name)
    flat = jax.tree.leaves(positions)
    at = [i for i, place in enumerate(flat) if place in chosen]
    reached = applies(tx, params)
    spec = Spec(name, tx, at, [chosen[flat[i]] for i in at], [i for i in at if not reached[i]], stack)
    if isinstance(tx, Composite):
        inside = {part.key: part for part in parts(tx, name, params, positions)}
        if all(part.positions is not None for part in inside.values()):
            tx = tx.with_parts_replaced(
                lambda key, inner: (
                    watched(inner, inside[key].name, inside[key].params, inside[key].positions, chosen, stack)
                    if key in inside
                    else inner
                )
            )
        else:
            spec.opaque = "inside it parameters have other shapes, so it is shown as one link"
        if not inside and tx.children():
            spec.opaque = "its inner transformations are not shown"
    elif tx.foreign:
        spec.opaque = "made of functions, which cannot be looked into"
    return recorder(tx, spec)


def picked(tree: Any, at: Sequence[int]) -> list[Any]:
    leaves = jax.tree.leaves(tree)
    return [leaves[i] for i in at]
