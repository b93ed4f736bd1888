"""Newton's method with the full matrix, for up to a few thousand parameters.

    u = (M + damping * I)^-1 g

    M = H, the Hessian                             "exact": goes to the point where the quadratic model is flat
    M = |H| = V |w| V^T, where H = V w V^T         "absolute": moves away from saddle points
    M = J^T J, J the Jacobian of the residuals     "gauss_newton": for f = |r(x)|^2 / 2

(Nocedal and Wright, 2006, "Numerical Optimization", chapters 3 and 10; Dauphin et al., 2014, "Identifying and attacking
the saddle point problem in high-dimensional non-convex optimization", for the absolute eigenvalues.)

Adaptive damping (Levenberg, 1944; Marquardt, 1963, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters")
tries the step and compares the decrease of f with the decrease that the quadratic model predicted:

    ratio = (f(x) - f(x - u)) / (<g, u> - <u, M u> / 2)
    damping: times 10 if ratio < 1/4, divided by 10 if ratio > 3/4;   u = 0 if ratio <= 1e-4

A step has the derivative of the formula above. |H| is differentiated as a function of a matrix, so that its derivative
exists where eigenvalues coincide, too: V (L * (V^T dH V)) V^T, where L_ij = (w_i + w_j) / (|w_i| + |w_j|) are the
divided differences of the absolute value (Higham, 2008, "Functions of Matrices", theorem 3.11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, mesh, tree
from gradtx.core.branch import inlined
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.slots import counter, per_tree
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import apply_updates
from gradtx.core.value import choice, flag
from gradtx.curvature.linesearch import descending
from gradtx.curvature.products import check_like
from gradtx.curvature.products import hessian as dense_hessian
from gradtx.types import Params, State, Updates

__all__ = ["ScaleByNewtonState", "newton", "scale_by_newton"]

_FACTOR = 10.0
"""Adaptive damping is multiplied or divided by this."""
_FIRST_DAMPING = 1e-3
_ACCEPTED = 1e-4
"""Adaptive damping takes a step only if the ratio of decrease and prediction is larger than this."""


class ScaleByNewtonState(NamedTuple):
    """State of `scale_by_newton`.

    `count` is the number of steps taken. `damping` is the damping of the last step, or, if adaptive, of the next
    step.
    """

    count: Array = counter()
    damping: Array = per_tree(start="damping", signed=False)


class scale_by_newton(Stateful, state=ScaleByNewtonState, needs=("params",), takes=("residual_fn",), real=True):
    """Multiplies the gradient by the inverse of the damped Hessian: Newton's method without the learning rate.

    `update` needs params and `value_fn`, the loss as a function of the parameters. With `hessian="gauss_newton"` it
    needs `residual_fn` instead: a function of the parameters that returns the residuals, an array or a tree of arrays.
    The loss is half the sum of their squares.

    With damping 0 and a singular matrix, "absolute" takes no step along directions of zero curvature. "exact" and
    "gauss_newton" do the same only if elimination hits an exact zero; rounding can hide it, and the step along such a
    direction is then very large. A zero gradient gives a zero step. NaN or infinity in the gradient or the matrix gives
    NaN. The Hessian is computed in the parameters' dtype.

    Args:
      damping: Added to every eigenvalue of the matrix; a larger damping gives shorter steps. Not negative.
      hessian: The matrix: "exact", "absolute" (with the absolute values of the Hessian's eigenvalues, so that steps
        move away from saddle points) or "gauss_newton".
      adaptive: Whether to adapt the damping to the decrease of the loss. `damping` is then only the first one, and a
        step that would not lower the loss is zero.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: x[0] ** 2 - 2 * x[1] ** 2
    >>> x = jnp.ones(2)
    >>> for kind in ("exact", "absolute"):
    ...     tx = gx.scale_by_newton(hessian=kind)
    ...     print(tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)[0])
    [1. 1.]
    [ 1. -1.]

    Raises:
      TypeError: a leaf is complex.
      ValueError: params or the function is missing, or the trees differ.
    """

    damping: Hyper = hyper(default=0.0, ge=0)
    hessian: str = choice(default="exact", options=("exact", "absolute", "gauss_newton"))
    adaptive: bool = flag(default=False)

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, ScaleByNewtonState]:
        count = counted(state.count)
        if not tree.size(updates):
            return updates, state._replace(count=count)
        gauss_newton = self.hessian == "gauss_newton"
        name = "residual_fn" if gauss_newton else "value_fn"
        fn = required_function(type(self).__name__, name, updates, params, extra)
        g, unravel = tree.raveled(updates)
        matrix = (_squared_jacobian if gauss_newton else dense_hessian)(fn, params).astype(g.dtype)
        damping = state.damping if self.adaptive else self.at(state.count).damping
        damping = jnp.asarray(damping).astype(g.dtype)
        u, matrix = _solve(matrix, g, damping, self.hessian == "absolute")
        if self.adaptive:
            predicted = jnp.vdot(g, u) - jnp.vdot(u, matrix @ u) / 2
            trial = apply_updates(params, jax.tree.map(lambda p, x: _narrowed(-x, p), params, unravel(u)))
            value, there = _values(fn, params, trial, extra, gauss_newton)
            ratio = gain_ratio(value, there, predicted)
            u = jnp.where((ratio > _ACCEPTED) | jnp.isnan(u), u, 0)  # keeps NaN visible
            # A zero gradient says nothing about the model, so the damping stays.
            damping = jnp.where(g.any(), _next_damping(damping, ratio), damping)
        return unravel(u), ScaleByNewtonState(count=count, damping=leaf.narrow(damping, state.damping.dtype))


@constructor
def newton(
    learning_rate: HyperArg = 1.0,
    *,
    hessian: str = "exact",
    damping: HyperArg | str = 0.0,
    linesearch: Any = None,
) -> chain:
    """Newton's method, by default the textbook method: one step with the inverse of the exact Hessian.

    Use it for up to a few thousand parameters: a step computes an n x n matrix and solves with it. Call it in a
    jitted function; outside of one, every update traces the Hessian again.

    Args:
      learning_rate: Step size, a number or a schedule. 1 by default; leave it there with adaptive damping, which
        judges full steps.
      hessian: "exact" (default), which saddle points attract; "absolute", which moves away from saddle points; or
        "gauss_newton", for a loss that is half a sum of squares.
      damping: A number that is added to every eigenvalue; a larger one gives shorter steps. Not negative; 0 by
        default. "adaptive" keeps the damping in the state and adapts it to the decrease of the loss. A step that
        would not lower the loss is then zero.
      linesearch: A transformation that chooses the step size and comes last in the chain, such as
        `gx.scale_by_zoom_linesearch(20)`. None by default.

    Returns:
      A transformation whose `update` needs params and `value_fn`. With `hessian="gauss_newton"` it needs
      `residual_fn` instead, see `scale_by_newton`. State: two numbers.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: (x[0] - 1) ** 2 + 5 * (x[0] + x[1]) ** 2
    >>> x, tx = jnp.array([7.0, 8.0]), gx.newton()
    >>> updates, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
    >>> print((x + updates).round(4))  # one step reaches the minimum of a quadratic
    [ 1. -1.]

    Raises:
      ValueError: `hessian` is not one of the three words; `damping` is negative or a word other than "adaptive".
      TypeError: `linesearch` is not a transformation.
    """
    adaptive = isinstance(damping, str)
    if adaptive:
        checks.choice("newton", "damping", damping, ("adaptive",))
    first: Any = (
        _FIRST_DAMPING if adaptive else scale_by_newton.check_field("damping", damping, who="newton", name="damping")
    )
    rule = scale_by_newton(first, hessian, adaptive)
    return descending(rule, learning_rate, linesearch)


# --- The function, the matrix and the values.


def required_function(
    who: str, name: str, updates: Updates, params: Params, extra: Mapping[str, Any]
) -> Callable[[Any], Any]:
    """Returns the extra argument `name`.

    Raises unless it is a function, and params are given and match the updates.
    """
    checks.needed(who, params=params, **{name: extra.get(name)})
    check_like(who, "updates", updates, "params", params)
    fn = extra[name]
    if not callable(fn):
        raise TypeError(f"{who}.update: {name} must be a function of the parameters, got {checks.shown(fn)}.")
    return fn


def _squared_jacobian(fn: Callable[[Any], Any], params: Params) -> Array:
    """Returns J^T J for the residuals; rows and columns are the entries of all leaves in order."""
    x, unravel = tree.raveled(params)
    jacobian = jax.jacfwd(lambda x: _residuals(fn, unravel(x)))(x)
    return jacobian.T @ jacobian


def _residuals(fn: Callable[[Any], Any], params: Params) -> Array:
    residuals = fn(params)
    # Compared with themselves: checks that all leaves are real arrays.
    check_like("scale_by_newton", "the residuals", residuals, "the residuals", residuals)
    return tree.raveled(residuals)[0]


def _values(
    fn: Callable[[Any], Any], params: Params, trial: Any, extra: Mapping[str, Any], gauss_newton: bool
) -> tuple[Any, Any]:
    """Returns the loss at the parameters and at a trial point."""
    if gauss_newton:
        here, there = (jnp.sum(_residuals(fn, p) ** 2) / 2 for p in (params, trial))
        return here, there
    value = extra.get("value")
    return fn(params) if value is None else value, fn(trial)


# --- Adaptive damping.


def gain_ratio(value: Any, there: Any, predicted: Array) -> Array:
    """Returns the decrease from `value` to `there`, divided by the decrease that the model predicted.

    Returns minus infinity if the new value is not finite. Near the minimum rounding hides both decreases. So a few
    rounding units of the value are added to both, which makes the ratio 1 there (Conn, Gould and Toint, 2000, "Trust
    Region Methods", section 17.4.2).
    """
    value, there = jnp.asarray(value), jnp.asarray(there)
    units = 10 * float(jnp.finfo(there.dtype).eps) * jnp.abs(value.astype(predicted.dtype))
    gained = value.astype(predicted.dtype) - there.astype(predicted.dtype) + units
    ratio = jnp.where(predicted >= 0, leaf.ratio(gained, predicted + units), -jnp.inf)
    return lax.stop_gradient(jnp.where(jnp.isfinite(there), ratio, -jnp.inf))


def _next_damping(damping: Array, ratio: Array) -> Array:
    """Increases damping after a poor step, decreases it after a good one."""
    info = jnp.finfo(damping.dtype)
    factor = jnp.where(ratio < 0.25, _FACTOR, jnp.where(ratio > 0.75, 1 / _FACTOR, 1.0)).astype(damping.dtype)
    return jnp.clip(damping * factor, float(info.eps), 1 / float(info.eps) ** 2)


def _narrowed(x: Any, like: Any) -> Array:
    return leaf.narrow(jnp.asarray(x), jnp.result_type(like))


# --- The linear system.


@partial(inlined, static_argnums=3)
def _solve(matrix: Array, g: Array, damping: Array, absolute: bool) -> tuple[Array, Array]:
    """Returns (M + damping I)^-1 g and M, where M is the matrix or its absolute value."""
    # The solution is linear in g: dividing by its size and multiplying afterwards keeps products from overflowing.
    size = lax.stop_gradient(jnp.max(jnp.abs(g)))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    if absolute:
        matrix, w, v = _absolute(matrix)
        w, v = lax.stop_gradient((w, v))  # only used to solve, see below
        solve = partial(_apply_pinv, w, v, damping)
    else:
        solve = partial(_solve_or_pinv, matrix, damping)

    def times(x: Array) -> Array:
        return matrix @ x + damping * x

    # custom_linear_solve differentiates through `times`, never through `solve`.
    u = lax.custom_linear_solve(times, g / size, lambda _, b: solve(b), symmetric=True) * size
    limit = float(jnp.finfo(u.dtype).max)
    finite = jnp.isfinite(g).all() & jnp.isfinite(matrix).all()
    return jnp.where(finite, jnp.clip(u, -limit, limit), jnp.nan), matrix


def _solve_or_pinv(matrix: Array, damping: Array, b: Array) -> Array:
    """Solves by elimination; if that hits a zero, applies the pseudo-inverse."""
    damped = matrix + damping * jnp.eye(b.size, dtype=b.dtype)
    x = jnp.linalg.solve(damped, b)
    return mesh.cond(jnp.isfinite(x).all(), lambda: x, lambda: _apply_pinv(*_eigen(damped), jnp.zeros_like(damping), b))


def _apply_pinv(w: Array, v: Array, damping: Array, b: Array) -> Array:
    """Applies the pseudo-inverse of V diag(w + damping) V^T, treating eigenvalues below rounding as zero.

    If damping is not zero, w must not be negative: the bound on rounding is computed from w alone.
    """
    rounding = float(jnp.finfo(w.dtype).eps) * w.size * jnp.max(jnp.abs(w))
    shifted = w + damping
    some = jnp.abs(shifted) > rounding
    return v @ (jnp.where(some, 1 / jnp.where(some, shifted, 1), 0) * (v.T @ b))


def _eigen(matrix: Array) -> tuple[Array, Array]:
    w, v = jnp.linalg.eigh(matrix)
    return w, v


@jax.custom_jvp
def _absolute(matrix: Array) -> tuple[Array, Array, Array]:
    """Returns |H|, the absolute eigenvalues of H, and its eigenvectors; the last two have no derivatives."""
    w, v = _eigen(matrix)
    size = jnp.abs(w)
    return (v * size[None, :]) @ v.T, size, v


@_absolute.defjvp
def _absolute_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    w, v = _eigen(primals[0])
    size = jnp.abs(w)
    sums = size[:, None] + size[None, :]
    some = sums > 0
    divided = jnp.where(some, (w[:, None] + w[None, :]) / jnp.where(some, sums, 1), 0)
    change = v @ (divided * (v.T @ tangents[0] @ v)) @ v.T
    return ((v * size[None, :]) @ v.T, size, v), (change, jnp.zeros_like(w), jnp.zeros_like(v))
