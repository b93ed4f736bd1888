"""A function along a line, and the conditions that a step on it must meet.

With phi(a) = f(x + a u), its slope phi'(a) = <grad f(x + a u), u>, and 0 < c1 < 1/2, c1 < c2 < 1, the conditions
are

    decrease                phi(a) <= phi(0) + c1 a phi'(0)                              (Armijo)
    approximate decrease    phi'(a) <= (2 c1 - 1) phi'(0)  and  phi(a) <= phi(0) + e |phi(0)|
    strong curvature        |phi'(a)| <= c2 |phi'(0)|                                    (Wolfe)
    weak curvature          phi'(a) >= c2 phi'(0)

The approximate condition looks at slopes, which are still accurate when rounding hides the decrease of the values
(Hager and Zhang, 2005, "A New Conjugate Gradient Method with Guaranteed Descent and an Efficient Line Search").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree

__all__ = ["Conditions", "Line", "Point", "value_and_grad"]


class Point(NamedTuple):
    """A step along the line, with the value and the slope there."""

    step: Array
    value: Array
    slope: Array


class Conditions(NamedTuple):
    """The constants of the conditions, and the point at step 0.

    If `approx_dec_rtol` is None, there is no approximate decrease condition.
    """

    start: Point
    slope_rtol: Any
    curv_rtol: Any
    approx_dec_rtol: Any = None

    def decrease_error(self, point: Point) -> Array:
        """Returns the violation of the decrease condition: 0 if it holds, infinite if the value is not finite."""
        error = point.value - self.start.value - self.slope_rtol * point.step * self.start.slope
        if self.approx_dec_rtol is not None:
            slopes = point.slope - (2 * self.slope_rtol - 1) * self.start.slope
            values = point.value - self.start.value - self.rounding()
            error = jnp.minimum(error, jnp.maximum(slopes, values))
        # A value of minus infinity does not count as a decrease, because there is no gradient to continue from.
        return jnp.where(jnp.isfinite(point.value), _positive(error), jnp.inf).astype(point.value.dtype)

    def curvature_error(self, point: Point, *, strong: bool = True) -> Array:
        """Returns the violation of the strong or the weak curvature condition."""
        steepness = jnp.abs(point.slope) if strong else -point.slope
        return _positive(steepness - self.curv_rtol * jnp.abs(self.start.slope)).astype(point.value.dtype)

    def rounding(self) -> Any:
        """Returns the tolerance by which a value may exceed the first value: e |phi(0)|."""
        return 0.0 if self.approx_dec_rtol is None else self.approx_dec_rtol * jnp.abs(self.start.value)

    def hopeless(self) -> Array:
        """Whether the line does not descend at its start, so that no step is tried."""
        return ~(self.start.slope < 0) | ~jnp.isfinite(self.start.value)


def _positive(error: Array) -> Array:
    return jnp.where(jnp.isnan(error), jnp.inf, jnp.maximum(error, 0))


def value_and_grad(fn: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Like `jax.value_and_grad`, but conjugates gradients of complex leaves, so that their negative descends."""

    def conjugated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, grad = jax.value_and_grad(fn)(*args, **kwargs)
        return value, jax.tree.map(jnp.conj, grad)

    return conjugated


class Line(NamedTuple):
    """A function along a line: maps a step to the `Point` there, with numbers in `dtype`, and to the gradient."""

    value_fn: Callable[[Any], Any]
    params: Any
    updates: Any
    dtype: Any

    def __call__(self, step: Array) -> tuple[Point, Any]:
        there = jax.tree.map(
            lambda p, u: leaf.narrow(_moved(p, step, u), jnp.result_type(p)), self.params, self.updates
        )
        value, grad = value_and_grad(self.value_fn)(there)
        return Point(
            step, jnp.asarray(value).astype(self.dtype), tree.real_vdot(grad, self.updates).astype(self.dtype)
        ), grad

    def shortest(self) -> Array:
        """Returns the step below which rounding hides most of the change of the parameters.

        A search that begins at this step finds a step size whatever the units of the function: a gradient of 1e-20
        is not necessarily small. Parameters that are all zero are treated as if their norm were 1.
        """
        eps = max([float(jnp.finfo(jnp.result_type(p)).eps) for p in jax.tree.leaves(self.params)], default=0.0)
        size, length = tree.norm(self.params), tree.norm(self.updates)
        return leaf.ratio(4 * eps * jnp.where(size > 0, size, 1), length).astype(self.dtype)


def _moved(p: Any, step: Array, u: Any) -> Array:
    return leaf.widen(jnp.asarray(p)) + step.astype(leaf.compute_dtype(jnp.result_type(u))) * leaf.widen(jnp.asarray(u))
