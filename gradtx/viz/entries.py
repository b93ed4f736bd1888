"""Reads the optimizers of a race from text, such as `yogi,sgd(momentum=0.9),lookahead(adam(), 5, 0.5),dog()`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.viz.expression import parse

__all__ = ["entries"]


def entries(text: str, names: Mapping[str, Any]) -> dict[str, GradientTransformation | Callable[[Any], Any]]:
    """Maps each optimizer in a text to an entry of `race`: a transformation, or a function of the learning rate.

    An optimizer is a name or a call. If a function needs the argument `learning_rate` and the text does not pass it,
    the race passes the learning rates that it tries.

    Args:
      text: The optimizers, separated by commas.
      names: Maps each name that the text may use to its object.

    >>> import gradtx as gx
    >>> from gradtx.viz.entries import entries
    >>> found = entries("sgd(momentum=0.9), dog", vars(gx))
    >>> found["sgd(momentum=0.9)"](0.1) == gx.sgd(0.1, momentum=0.9)
    True
    >>> found["dog"] == gx.dog()
    True

    Raises:
      ValueError: the text is not a list of optimizers, uses a name that is not in `names`, or contains an optimizer
        twice.
      TypeError: a call lacks another argument, or does not make a transformation.
    """
    found: dict[str, Any] = {}
    for part in _parts(text):
        if part in found:
            raise ValueError(f"{part} occurs twice in {text!r}: name each optimizer once.")
        found[part] = _entry(part if "(" in part else f"{part}()", names)
    return found


def _parts(text: str) -> list[str]:
    source = f"[{text.strip()}]"
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
        tree = None
    if not isinstance(tree, ast.List) or not tree.elts:
        raise ValueError(f"{text!r} is not a list of optimizers: write some such as yogi,sgd(momentum=0.9),dog.")
    return [ast.get_source_segment(source, node) or "" for node in tree.elts]


def _entry(text: str, names: Mapping[str, Any]) -> Any:
    """Returns a function of the learning rate if some call lacks the learning rate, else the transformation."""
    taken: list[str] = []

    def make(rate: Any) -> Any:
        return as_transformation(text, parse(text, {name: _given(name, x, rate, taken) for name, x in names.items()}))

    tx = make(0.001)
    return make if taken else tx


def _given(name: str, item: Any, rate: Any, taken: list[str]) -> Any:
    """Wraps `item` so that it gets the learning rate if a call lacks it; appends `name` to `taken` in this case."""
    if not callable(item):
        return item

    def call(*args: Any, **kwargs: Any) -> Any:
        if _lacks_rate(item, args, kwargs):
            taken.append(name)
            kwargs["learning_rate"] = rate
        return item(*args, **kwargs)

    return call


def _lacks_rate(item: Any, args: Any, kwargs: Any) -> bool:
    signature = inspect.signature(item)
    rate = signature.parameters.get("learning_rate")
    if rate is None or rate.default is not rate.empty:
        return False
    try:
        return "learning_rate" not in signature.bind_partial(*args, **kwargs).arguments
    except TypeError:  # a call of `item` will raise a better error
        return False
