"""Helpers of this package: check arguments under PyTorch's names, and build the chain around a method."""

from __future__ import annotations

from typing import Any, TypeVar

from gradtx import checks, leaf
from gradtx.core.chain import chain
from gradtx.core.value import Value
from gradtx.transforms.decay import add_decayed_weights
from gradtx.transforms.scale import scale, scale_by_learning_rate

__all__ = ["before", "descent", "flagged", "made", "several", "zero"]

_Value = TypeVar("_Value", bound=Value)


def made(who: str, rule: type[_Value], /, **fields: Any) -> _Value:
    """Makes a transformation from its fields. A field may be a pair (PyTorch's name, value); errors use this name."""
    for field, item in fields.items():
        if isinstance(item, tuple):
            name, value = item
            fields[field] = rule.check_field(field, value, who=f"torch.{who}", name=name)
    return rule(**fields)


def several(who: str, name: str, value: Any, n: int = 2) -> list[tuple[str, Any]]:
    """Returns the entries of an argument that is a tuple of `n` values, each as a pair (name, value)."""
    if not isinstance(value, (tuple, list)) or len(value) != n:
        raise TypeError(f"torch.{who}: {name} must be a tuple of {n} numbers, got {checks.shown(value)}.")
    return [(f"{name}[{i}]", item) for i, item in enumerate(value)]


def zero(x: Any) -> bool:
    """Whether `x` is the number 0, and not an array or a schedule."""
    return leaf.is_number(x) and x == 0


def flagged(who: str, name: str, value: Any) -> bool:
    """Checks that an argument is a boolean, and returns it."""
    return scale_by_learning_rate.check_field("flip_sign", value, who=f"torch.{who}", name=name)


def before(who: str, weight_decay: Any = 0, maximize: Any = False) -> list[Any]:
    """Returns the transformations before a method: the change of sign for `maximize`, and the L2 penalty."""
    ascent = [scale(-1.0)] if flagged(who, "maximize", maximize) else []
    decay = made(who, add_decayed_weights, weight_decay=("weight_decay", weight_decay))
    return ascent if zero(decay.weight_decay) else [*ascent, decay]


def descent(who: str, *rules: Any, lr: Any, weight_decay: Any, maximize: Any, decoupled: Any = False) -> chain:
    """Returns the chain of a method: `rules`, the decay before (or after, if decoupled) them, and the learning rate."""
    rate = made(who, scale_by_learning_rate, learning_rate=("lr", lr))
    if not flagged(who, "decoupled_weight_decay", decoupled):
        return chain(*before(who, weight_decay, maximize), *rules, rate)
    return chain(*before(who, 0, maximize), *rules, *before(who, weight_decay), rate)
