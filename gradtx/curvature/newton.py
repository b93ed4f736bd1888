"""Newton's method with the matrix written out, for up to some thousand parameters.

    u = (M + damping * I)^-1 g

    M = H, the Hessian                             "exact": the step to where the quadratic model is flat
    M = |H| = V |w| V^T, where H = V w V^T         "absolute": saddle points repel
    M = J^T J, J the Jacobian of the residuals     "gauss_newton": for f = |r(x)|^2 / 2

(Nocedal and Wright, 2006, "Numerical Optimization", chapters 3 and 10; Dauphin et al., 2014, "Identifying and attacking
the saddle point problem in high-dimensional non-convex optimization", for the absolute eigenvalues.)

Adapted damping (Levenberg, 1944; Marquardt, 1963, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters")
tries the step and compares what it gains with what the quadratic model promised:

    ratio = (f(x) - f(x - u)) / (<g, u> - <u, M u> / 2)
    damping: times 10 where ratio < 1/4, over 10 where ratio > 3/4;   u = 0 where ratio is hardly positive

The derivative of a step is that of the formula, with |H| differentiated as a function of a matrix, which is defined
where eigenvalues meet too: V (L * (V^T dH V)) V^T, where L_ij = (w_i + w_j) / (|w_i| + |w_j|) are the divided
differences of the absolute value (Higham, 2008, "Functions of Matrices", theorem 3.11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import checks, leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.slots import counter, per_tree
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import apply_updates
from gradtx.core.value import choice, flag
from gradtx.curvature.linesearch import descending
from gradtx.curvature.products import check_like, hessian

__all__ = ["ScaleByNewtonState", "newton", "scale_by_newton"]

_FACTOR = 10.0
"""By how much adapted damping changes at once."""
_FIRST_DAMPING = 1e-3
_ACCEPTED = 1e-4
"""The least ratio of gain and promise with which a step is taken."""


class ScaleByNewtonState(NamedTuple):
    """The steps taken, and the damping: that of the last step, or, if adapted, that of the next."""

    count: Array = counter()
    damping: Array = per_tree(start="damping", signed=False)


class scale_by_newton(Stateful, state=ScaleByNewtonState, needs=("params",), takes=("residual_fn",), real=True):
    """The rule of Newton's method, without the learning rate: the gradient times the inverse of the damped matrix.

    `update` needs params and `value_fn`, the function of the parameters whose Hessian it takes; with
    `hessian="gauss_newton"` it needs `residual_fn` instead, a function of the parameters that returns residuals, an
    array or a tree of them, whose sum of squares is twice the loss. `damping` is not negative; with `adaptive` it is
    only the first one, and the step is zero where it would not lower the value.

    Where the matrix is singular and damping is 0, "absolute" leaves the directions without curvature as they are (the
    pseudo-inverse). So do the others where elimination meets a zero; where it meets rounding errors instead, their step
    is as large as those make it. Without a gradient the step is zero. What is not finite gives NaN. The Hessian is that
    of the function as it computes, in the parameters' own dtype.

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

    def step(self, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, ScaleByNewtonState]:
        count = counted(state.count)
        if not tree.size(updates):
            return updates, state._replace(count=count)
        name = "residual_fn" if self.hessian == "gauss_newton" else "value_fn"
        fn = needed(type(self).__name__, name, updates, params, extra)
        g, unravel = tree.raveled(updates)
        matrix = (_squared_jacobian(fn, params) if self.hessian == "gauss_newton" else hessian(fn, params)).astype(
            g.dtype
        )
        damping = state.damping if self.adaptive else self.at(state.count).damping
        damping = jnp.asarray(damping).astype(g.dtype)
        u, matrix = _solved(matrix, g, damping, self.hessian == "absolute")
        if self.adaptive:
            promised = jnp.vdot(g, u) - jnp.vdot(u, matrix @ u) / 2
            trial = apply_updates(params, jax.tree.map(lambda p, x: _as(-x, p), params, unravel(u)))
            value, there = _values(fn, params, trial, extra, self.hessian == "gauss_newton")
            ratio = gain_ratio(value, there, promised)
            u = jnp.where((ratio > _ACCEPTED) | jnp.isnan(u), u, 0)  # NaN stays visible
            damping = jnp.where(g.any(), adapted(damping, ratio), damping)
        return unravel(u), ScaleByNewtonState(count=count, damping=leaf.narrow(damping, state.damping.dtype))


@constructor
def newton(
    learning_rate: HyperArg = 1.0,
    *,
    hessian: str = "exact",
    damping: HyperArg | str = 0.0,
    linesearch: Any = None,
) -> chain:
    """Newton's method, by default the textbook's. State: two numbers, and n^2 numbers while a step is computed.

    `update` needs params and `value_fn`; with `hessian="gauss_newton"` instead of it `residual_fn`, see
    `scale_by_newton`. `hessian="absolute"` leaves saddle points, "exact" is drawn to them. `damping` is a number that
    is added to every eigenvalue, or "adaptive": then it is in the state and adapts to the value that each full step
    gains (leave the learning rate at 1), and a step that would gain nothing is zero. `linesearch` is a transformation
    that comes last, and gets the step.

    Call it in a jitted function: outside of one, every update traces the Hessian anew.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> f = lambda x: (x[0] - 1) ** 2 + 5 * (x[0] + x[1]) ** 2
    >>> x, tx = jnp.array([7.0, 8.0]), gx.newton()
    >>> updates, state = tx.update(jax.grad(f)(x), tx.init(x), x, value_fn=f)
    >>> print((x + updates).round(4))  # one step from the minimum of a quadratic
    [ 1. -1.]

    Raises:
      ValueError: `hessian` is none of its three, `damping` is negative or another word.
      TypeError: `linesearch` is no transformation.
    """
    adaptive = isinstance(damping, str)
    if adaptive:
        checks.choice("newton", "damping", damping, ("adaptive",))
    first: Any = (
        _FIRST_DAMPING if adaptive else scale_by_newton.check_field("damping", damping, who="newton", name="damping")
    )
    rule = scale_by_newton(first, hessian, adaptive)
    return descending(rule, learning_rate, linesearch)


def needed(who: str, name: str, updates: Any, params: Any, extra: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The function among the extra arguments; raises unless it and params are there, and params like the updates."""
    checks.needed(who, params=params, **{name: extra.get(name)})
    check_like(who, "updates", updates, "params", params)
    fn = extra[name]
    if not callable(fn):
        raise TypeError(f"{who}.update: {name} must be a function of the parameters, got {checks.shown(fn)}.")
    return fn


def gain_ratio(value: Any, there: Any, promised: Array) -> Array:
    """What a step gained over what its model promised; minus infinity where the new value is not finite.

    Near the minimum both are lost in the rounding of the values; a few of its units, added to both, make the ratio 1
    there (Conn, Gould and Toint, 2000, "Trust Region Methods", section 17.4.2).
    """
    value, there = jnp.asarray(value), jnp.asarray(there)
    units = 10 * float(jnp.finfo(there.dtype).eps) * jnp.abs(value.astype(promised.dtype))
    gained = value.astype(promised.dtype) - there.astype(promised.dtype) + units
    ratio = jnp.where(promised >= 0, leaf.ratio(gained, promised + units), -jnp.inf)
    return lax.stop_gradient(jnp.where(jnp.isfinite(there), ratio, -jnp.inf))


def adapted(damping: Array, ratio: Array) -> Array:
    """The next damping."""
    info = jnp.finfo(damping.dtype)
    factor = jnp.where(ratio < 0.25, _FACTOR, jnp.where(ratio > 0.75, 1 / _FACTOR, 1.0)).astype(damping.dtype)
    return jnp.clip(damping * factor, float(info.eps), 1 / float(info.eps) ** 2)


def _as(x: Any, like: Any) -> Array:
    return leaf.narrow(jnp.asarray(x), jnp.result_type(like))


def _squared_jacobian(fn: Callable[[Any], Any], params: Any) -> Array:
    """J^T J of the residuals, by the entries of all leaves in order."""
    x, unravel = tree.raveled(params)
    jacobian = jax.jacfwd(lambda x: _residuals(fn, unravel(x)))(x)
    return jacobian.T @ jacobian


def _residuals(fn: Callable[[Any], Any], params: Any) -> Array:
    residuals = fn(params)
    check_like("scale_by_newton", "the residuals", residuals, "the residuals", residuals)
    return tree.raveled(residuals)[0]


def _values(
    fn: Callable[[Any], Any], params: Any, trial: Any, extra: Mapping[str, Any], squares: bool
) -> tuple[Any, Any]:
    """The values at the parameters and at a trial point."""
    if squares:
        here, there = (jnp.sum(_residuals(fn, p) ** 2) / 2 for p in (params, trial))
        return here, there
    value = extra.get("value")
    return fn(params) if value is None else value, fn(trial)


def _solved(matrix: Array, g: Array, damping: Array, absolute: bool) -> tuple[Array, Array]:
    """(M + damping I)^-1 g and M, where M is the matrix or its absolute value."""
    size = lax.stop_gradient(jnp.max(jnp.abs(g)))
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)  # keeps products from overflowing; the step is linear
    w, v = jnp.zeros_like(g), matrix
    if absolute:
        matrix, w, v = _absolute(matrix)

    def times(x: Array) -> Array:
        return matrix @ x + damping * x

    def solve(matvec: Any, b: Array) -> Array:
        del matvec
        if absolute:
            return _by_eigenvalues(lax.stop_gradient(w), lax.stop_gradient(v), b, damping)
        damped = matrix + damping * jnp.eye(b.size, dtype=b.dtype)
        x = jnp.linalg.solve(damped, b)
        return lax.cond(jnp.isfinite(x).all(), lambda: x, lambda: _by_eigenvalues(*_eigen(damped), b, 0 * damping))

    u = lax.custom_linear_solve(times, g / size, solve, symmetric=True) * size
    limit = float(jnp.finfo(u.dtype).max)
    known = jnp.isfinite(g).all() & jnp.isfinite(matrix).all()
    return jnp.where(known, jnp.clip(u, -limit, limit), jnp.nan), matrix


def _by_eigenvalues(w: Array, v: Array, b: Array, damping: Array) -> Array:
    """V (w + damping)^+ V^T b, for eigenvalues of one sign if damped; what is zero to rounding stays zero."""
    least = float(jnp.finfo(w.dtype).eps) * w.size * jnp.max(jnp.abs(w))
    shifted = w + damping
    some = jnp.abs(shifted) > least
    return v @ (jnp.where(some, 1 / jnp.where(some, shifted, 1), 0) * (v.T @ b))


def _eigen(matrix: Array) -> tuple[Array, Array]:
    w, v = jnp.linalg.eigh(matrix)
    return w, v


@jax.custom_jvp
def _absolute(matrix: Array) -> tuple[Array, Array, Array]:
    """|H|, the absolute eigenvalues of H, and its eigenvectors; the last two are constants to derivatives."""
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
