"""L-BFGS-B: L-BFGS with bounds on the parameters, which no step violates.

With the pairs of L-BFGS, each divided by the root of its <s, y>, as the rows of S and Y, and theta = <y, y> / <s,
y> of the newest, the Hessian is approximated by

    B = theta I - W M W^T,    W = [Y^T, theta S^T],    M^-1 = [-I    L^T        ]    L_ij = <s_i, y_j>, i newer than j
                                                              [ L    theta S S^T]
and a step has three parts:

    the Cauchy point        the first minimum of m(z) = <g, z> + <z, B z> / 2 along z(t) = P(x - t g) - x
    the subspace minimum    the minimum of m over the entries that are not at a bound at the Cauchy point, with each
                            entry moved back into the box; if that does not descend, cut where it leaves the box
    a line search           from x to that point, and beyond if no bound is in the way

(Byrd, Lu, Nocedal and Zhu, 1995, "A Limited Memory Algorithm for Bound Constrained Optimization"; the form of B:
Byrd, Nocedal and Schnabel, 1994, theorem 2.3; moving entries back into the box: Morales and Nocedal, 2011, "Remark
on Algorithm 778".) Entry i meets its bound at t_i. Between two of the t_i, in order, the slope and curvature of
m(z(t)) follow from sums over the entries that have met their bounds and over the others. Cumulative sums give them
for all pieces at once, and the first piece with a minimum in it is looked up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, mesh, tree
from gradtx.core.composite import Wrapper
from gradtx.core.constructor import constructor
from gradtx.core.packed import kept, unpacked
from gradtx.core.slots import child_state, counter
from gradtx.core.state import counted
from gradtx.core.transformation import GradientTransformation, identity
from gradtx.core.value import child, integer
from gradtx.curvature.box import Box, bound, box, inside
from gradtx.curvature.lbfgs import ScaleByLBFGSState, remembered, scale_by_lbfgs
from gradtx.curvature.products import check_like
from gradtx.curvature.zoom import STRONG_WOLFE
from gradtx.types import Params, State, Updates

__all__ = ["LBFGSBState", "lbfgsb", "scale_by_lbfgsb"]


class LBFGSBState(NamedTuple):
    """State of L-BFGS-B: the number of steps, the memory of L-BFGS, and the state of the line search."""

    count: Array = counter()
    memory: ScaleByLBFGSState = child_state(of="memory")
    inner_state: Any = child_state()


class scale_by_lbfgsb(Wrapper, state=LBFGSBState, needs=("params",), real=True):
    """Takes steps of L-BFGS-B around a line search, without leaving the box.

    The building block of `lbfgsb`, with a line search of your own. The line search gets a step that ends in the
    box, and a `value_fn` that is never evaluated outside of it. Its `max_learning_rate`, if it has one, is lowered
    to where the step meets the first bound.

    Args:
      inner: The line search, or `gx.identity()` to take whole steps.
      lower: The lower bound: a number, an array or a tree of them, see `lbfgsb`.
      upper: The upper bound, in the same forms.
      memory_size: Number of steps from which the Hessian is approximated. At least 1; 10 by default.

    Returns:
      A transformation. State: `2 * memory_size + 2` arrays per parameter, and the state of the line search.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_lbfgsb(gx.identity(), 0.0, 1.0)  # the whole step
    >>> x = jnp.array([0.5, 0.5])
    >>> print(tx.update(jnp.array([8.0, -0.1]), tx.init(x), x)[0].round(3))
    [-0.5  0.1]

    Raises:
      TypeError: a leaf is complex, or a bound is not a number, an array or a tree of them.
      ValueError: a bound does not fit the parameters, or params are missing.
    """

    lower: Any = child(check=bound)
    upper: Any = child(check=bound)
    memory_size: int = integer(default=10, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if leaf.is_number(self.lower) and leaf.is_number(self.upper) and self.lower > self.upper:
            raise ValueError(
                f"scale_by_lbfgsb: lower is {self.lower} and upper is {self.upper}, so no parameter fits. "
                "Give lower <= upper."
            )

    def children(self) -> dict[str, GradientTransformation]:
        return {"memory": scale_by_lbfgs(self.memory_size), "inner": self.inner}

    def init(self, params: Params) -> LBFGSBState:
        who = type(self).__name__
        checks.floating(who, "params", params, jax.tree.leaves(params))
        checks.real(who, "params", params, jax.tree.leaves(params))
        box(who, self.lower, self.upper, params)
        return super().init(params)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, LBFGSBState]:
        who, count = type(self).__name__, counted(state.count)
        if not tree.size(updates):
            return updates, state._replace(count=count)
        check_like(who, "updates", updates, "params", params)
        limits = box(who, self.lower, self.upper, params)
        start = jax.tree.map(lambda p: leaf.widen(jnp.asarray(p)), limits.nearest(params))
        grad = jax.tree.map(lambda g, p: leaf.widen(jnp.asarray(g)).astype(p.dtype), updates, start)
        memory = remembered(unpacked(state.memory), start, grad)
        with jax.default_matmul_precision("highest"):
            step = _step(memory, start, grad, limits)
        inner = self._limited(limits.longest(start, step))
        if extra.get("value_fn") is not None:
            extra["value_fn"] = inside(extra["value_fn"], limits)
        found, inner_state = inner.update(step, state.inner_state, params, **inner.accepted(extra))
        return limits.kept(params, found, updates), LBFGSBState(
            count=count, memory=kept(memory, state.memory), inner_state=inner_state
        )

    def _limited(self, longest: Array) -> Any:
        """Returns the line search with a longest step that ends at the border of the box."""
        own = getattr(self.inner, "max_learning_rate", None)
        if own is None or callable(own):
            return self.inner
        return self.inner._filled(("max_learning_rate",), (jnp.minimum(own, jnp.maximum(longest, 1)),))

    def nearest(self, params: Params) -> Any:
        return box(type(self).__name__, self.lower, self.upper, params).nearest(params)

    def reduced_gradient(self, params: Params, grad: Any) -> Any:
        return box(type(self).__name__, self.lower, self.upper, params).reduced(params, grad)


class _Model(NamedTuple):
    """B of the module's docstring. The rows of `w` are the columns of W; unused ones are zero."""

    theta: Array
    w: Array
    m: Array
    inverse: Array


def _model(memory: ScaleByLBFGSState, first: Array) -> _Model:
    size = memory.weights_memory.shape[0]
    weights = jnp.sqrt(memory.weights_memory).astype(first.dtype)[:, None]
    memories = (memory.diff_params_memory, memory.diff_updates_memory)
    leaves = ([mesh.whole(x).astype(first.dtype) for x in jax.tree.leaves(pairs)] for pairs in memories)
    s, y = (weights * jnp.concatenate([x.reshape(size, -1) for x in rows], 1) for rows in leaves)
    gamma = memory.identity_scale.astype(first.dtype)
    theta = jnp.where(memory.pairs > 0, 1 / jnp.where(gamma > 0, gamma, 1), first)
    age = (memory.pairs - 1 - jnp.arange(size)) % size
    below = jnp.where(age[:, None] < age[None, :], s @ y.T, 0)
    corner = theta * (s @ s.T) + jnp.diag(jnp.where(weights[:, 0] > 0, 0, 1).astype(first.dtype))
    inverse = jnp.block([[-jnp.eye(size, dtype=first.dtype), below.T], [below, corner]])
    return _Model(theta, jnp.concatenate([y, theta * s]), jnp.linalg.inv(inverse), inverse)


@jax.jit  # without jit it would run as a hundred small programs
def _step(memory: ScaleByLBFGSState, params: Params, grad: Any, limits: Box) -> Any:
    """Returns the step from the parameters to the minimum of the model in the box."""
    x, unravel = tree.raveled(params)
    g, low, high = (tree.raveled(part)[0] for part in (grad, *limits))
    steepest = jnp.clip(g, x - high, x - low)
    model = _model(memory, jnp.maximum(tree.norm(steepest), 1))
    cauchy = _cauchy(model, x, g, low, high)
    z = _subspace(model, x, g, low, high, cauchy) - x
    # If rounding spoils the model, as nearly dependent pairs do, take a step of steepest descent.
    sound = jnp.isfinite(z).all() & (g @ z < 0)
    return unravel(jnp.where(sound, z, -jnp.clip(g / model.theta, x - high, x - low)))


def _cauchy(model: _Model, x: Array, g: Array, low: Array, high: Array) -> Array:
    theta, w, m, _ = model
    some = g != 0
    bound = jnp.where(g < 0, high, low)
    meets = jnp.where(some, (x - bound) / jnp.where(some, g, 1), jnp.inf)
    order = jnp.argsort(meets)
    at, g_at, w_at = meets[order], g[order], w[:, order]
    reached = jnp.isfinite(at)
    gone = jnp.where(reached, bound[order] - x[order], 0)

    def before(terms: Array) -> Array:
        return jnp.pad(jnp.cumsum(terms, -1), [(0, 0)] * (terms.ndim - 1) + [(1, 0)])

    def after(terms: Array) -> Array:
        return jnp.flip(before(jnp.flip(terms, -1)), -1)

    # Piece j lies between bounds j - 1 and j: d is -g without the first j entries, p = W^T d, c = W^T z.
    begin, end = jnp.pad(jnp.where(reached, at, 0), (1, 0)), jnp.pad(at, (0, 1), constant_values=jnp.inf)
    p, sq = -after(w_at * g_at[None, :]), after(g_at * g_at)
    c = before(w_at * gone[None, :]) + begin[None, :] * p
    mp = m @ p
    slope = sq * (theta * begin - 1) - jnp.sum(mp * c, 0)
    curvature = jnp.maximum(theta * sq - jnp.sum(mp * p, 0), jnp.finfo(x.dtype).eps * theta * sq)
    further = jnp.where(slope < 0, -slope / jnp.where(curvature > 0, curvature, 1), 0)
    inside = jnp.pad(reached, (1, 0), constant_values=True) & (begin + further <= end)
    j = jnp.argmax(inside)
    t = begin[j] + further[j]
    return jnp.where(meets <= t, bound, jnp.clip(x - t * g, low, high))


def _subspace(model: _Model, x: Array, g: Array, low: Array, high: Array, cauchy: Array) -> Array:
    theta, w, m, inverse = model
    free = (cauchy > low) & (cauchy < high)
    z = cauchy - x
    slope = jnp.where(free, g + theta * z - w.T @ (m @ (w @ z)), 0)
    freed = jnp.where(free[None, :], w, 0)
    inner = jnp.linalg.solve(inverse - freed @ freed.T / theta, freed @ slope)
    d = -(slope + freed.T @ inner / theta) / theta
    projected = jnp.clip(cauchy + d, low, high)
    ahead = jnp.where(d > 0, high, low) - cauchy
    part = jnp.min(jnp.where(d == 0, 1, ahead / jnp.where(d == 0, 1, d)), initial=1)
    cut = jnp.clip(cauchy + part * d, low, high)
    return jnp.where(g @ (projected - x) < 0, projected, cut)


@constructor
def lbfgsb(lower: Any, upper: Any, memory_size: int = 10, linesearch: Any = STRONG_WOLFE) -> scale_by_lbfgsb:
    """L-BFGS-B: L-BFGS for parameters with bounds, `lower <= params <= upper`.

    Use it (with `gx.minimize`) for smooth, deterministic functions of bounded parameters. Parameters inside the
    box stay in it exactly, and the function is never evaluated outside. Parameters outside are moved in by the
    first step, up to rounding. `minimize` starts from the nearest point of the box, and measures convergence by the
    norm of x - P(x - g), the part of the gradient that the bounds leave. Parameters must be real.

    Args:
      lower: The lower bound: a number, an array that can be broadcast to each parameter, or a tree of them like the
        parameters (or like the upper part of their tree). -inf for no bound. Bounds are data, so new ones need no
        compilation; schedules are not allowed.
      upper: The upper bound, in the same forms; inf for no bound. It may equal the lower bound. If `lower` exceeds
        `upper` somewhere in arrays, `upper` holds there.
      memory_size: Number of steps from which the Hessian is approximated. At least 1; 10 by default.
      linesearch: A transformation that chooses the step size. By default a zoom search for the strong Wolfe
        conditions; None for none.

    Returns:
      A transformation whose `update` needs params, and with a line search `value`, `grad` and `value_fn`. State:
      `2 * memory_size + 2` arrays per parameter, and one more with a line search (92 bytes per parameter in float32
      by default).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> result = gx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gx.lbfgsb(-jnp.inf, jnp.array([0.5, 1.0])), tol=1e-3)
    >>> print(result.params.round(3))
    [0.5  0.25]

    Raises:
      TypeError: a bound is not a number, a real array, or a tree of them.
      ValueError: a bound is NaN, or a number `lower` exceeds a number `upper`.

    References:
      Byrd, Lu, Nocedal and Zhu, 1995, "A Limited Memory Algorithm for Bound Constrained Optimization".
    """
    return scale_by_lbfgsb(identity() if linesearch is None else linesearch, lower, upper, memory_size)
