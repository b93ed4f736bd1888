"""Helpers of this package: arguments checked under PyTorch's names, and the links around a rule."""

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
    """Makes a rule from its fields; a pair (name, value) is a value whose errors use PyTorch's name for it."""
    for field, item in fields.items():
        if isinstance(item, tuple):
            name, value = item
            fields[field] = rule.check_field(field, value, who=f"torch.{who}", name=name)
    return rule(**fields)


def several(who: str, name: str, value: Any, n: int = 2) -> list[tuple[str, Any]]:
    """Returns the entries of an argument that is a tuple of `n`, each with its name."""
    if not isinstance(value, (tuple, list)) or len(value) != n:
        raise TypeError(f"torch.{who}: {name} must be a tuple of {n} numbers, got {checks.shown(value)}.")
    return [(f"{name}[{i}]", item) for i, item in enumerate(value)]


def zero(x: Any) -> bool:
    """Whether `x` is the number 0, and not an array or a schedule."""
    return leaf.is_number(x) and x == 0


def flagged(who: str, name: str, value: Any) -> bool:
    """Returns a flag, checked under its name."""
    return scale_by_learning_rate.check_field("flip_sign", value, who=f"torch.{who}", name=name)


def before(who: str, weight_decay: Any = 0, maximize: Any = False) -> list[Any]:
    """Returns the links before the rule: for the sign of the gradient, and for the penalty."""
    ascent = [scale(-1.0)] if flagged(who, "maximize", maximize) else []
    decay = made(who, add_decayed_weights, weight_decay=("weight_decay", weight_decay))
    return ascent if zero(decay.weight_decay) else [*ascent, decay]


def descent(who: str, *rules: Any, lr: Any, weight_decay: Any, maximize: Any, decoupled: Any = False) -> chain:
    """Chains the rules of a method, the decay before them (or after them, if decoupled), and the learning rate."""
    rate = made(who, scale_by_learning_rate, learning_rate=("lr", lr))
    if not flagged(who, "decoupled_weight_decay", decoupled):
        return chain(*before(who, weight_decay, maximize), *rules, rate)
    return chain(*before(who, 0, maximize), *rules, *before(who, weight_decay), rate)
