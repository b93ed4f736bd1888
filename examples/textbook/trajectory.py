"""The points that a transformation visits, which most pictures of the textbook draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

import gradtx as gx


def trajectory(loss: Callable[[Any], Any], tx: gx.GradientTransformation, start: Any, steps: int) -> Any:
    """Runs `steps` steps of `tx` on `loss` and returns the visited points, `start` included, along a new first axis."""
    step = gx.value_and_step(loss, tx)

    def body(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Any]:
        point, state = carry
        return step(point, state)[:2], point

    (end, _), points = jax.lax.scan(body, (start, tx.init(start)), length=steps)
    return jax.tree.map(lambda path, last: jax.numpy.concatenate([path, last[None]]), points, end)
