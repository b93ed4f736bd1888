"""A function along a line, and what a step on it must fulfil.

With phi(a) = f(x + a u), its slope phi'(a) = <grad f(x + a u), u>, and 0 < c1 < 1/2, c1 < c2 < 1, a step fulfils

    the decrease condition          phi(a) <= phi(0) + c1 a phi'(0)                              (Armijo)
    or approximately                phi'(a) <= (2 c1 - 1) phi'(0)  and  phi(a) <= phi(0) + e |phi(0)|
    the strong curvature condition  |phi'(a)| <= c2 |phi'(0)|                                    (Wolfe)
    or the weak one                 phi'(a) >= c2 phi'(0)

The approximate one looks at slopes, which are still right where rounding hides the decrease of the values (Hager and
Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree

__all__ = ["Conditions", "Point", "along", "value_and_grad"]


class Point(NamedTuple):
    """A step along the line with the value and the slope there."""

    step: Array
    value: Array
    slope: Array


class Conditions(NamedTuple):
    """The constants of the conditions, and the point at step 0; `approx_dec_rtol` None for no approximate decrease."""

    start: Point
    slope_rtol: Any
    curv_rtol: Any
    approx_dec_rtol: Any = None

    def decrease_error(self, point: Point) -> Array:
        """By how much the decrease condition is missed: 0 where it holds, infinite where the value is no number."""
        error = point.value - self.start.value - self.slope_rtol * point.step * self.start.slope
        if self.approx_dec_rtol is not None:
            slopes = point.slope - (2 * self.slope_rtol - 1) * self.start.slope
            values = point.value - self.start.value - self.rounding()
            error = jnp.minimum(error, jnp.maximum(slopes, values))
        return _positive(error).astype(point.value.dtype)

    def curvature_error(self, point: Point, *, strong: bool = True) -> Array:
        """By how much the strong curvature condition, or the weak one, is missed."""
        steepness = jnp.abs(point.slope) if strong else -point.slope
        return _positive(steepness - self.curv_rtol * jnp.abs(self.start.slope)).astype(point.value.dtype)

    def rounding(self) -> Any:
        """By how much a value may be above the first one: e |phi(0)|."""
        return 0.0 if self.approx_dec_rtol is None else self.approx_dec_rtol * jnp.abs(self.start.value)

    def hopeless(self) -> Array:
        """Whether the line does not go down at its start: no step is tried."""
        return ~(self.start.slope < 0) | ~jnp.isfinite(self.start.value)


def _positive(error: Array) -> Array:
    return jnp.where(jnp.isnan(error), jnp.inf, jnp.maximum(error, 0))


def value_and_grad(fn: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """`jax.value_and_grad`, with the gradient of a complex leaf conjugated, so that its negative descends."""

    def conjugated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, grad = jax.value_and_grad(fn)(*args, **kwargs)
        return value, jax.tree.map(jnp.conj, grad)

    return conjugated


def along(value_fn: Callable[[Any], Any], params: Any, updates: Any, dtype: Any) -> Callable[..., tuple[Point, Any]]:
    """A function from a step to the point there, its numbers in `dtype`, and the gradient."""

    def look(step: Array) -> tuple[Point, Any]:
        there = jax.tree.map(lambda p, u: leaf.narrow(_moved(p, step, u), jnp.result_type(p)), params, updates)
        value, grad = value_and_grad(value_fn)(there)
        return Point(step, jnp.asarray(value).astype(dtype), tree.vdot(grad, updates).astype(dtype)), grad

    return look


def _moved(p: Any, step: Array, u: Any) -> Array:
    return leaf.widen(jnp.asarray(p)) + step.astype(leaf.compute_dtype(jnp.result_type(u))) * leaf.widen(jnp.asarray(u))
