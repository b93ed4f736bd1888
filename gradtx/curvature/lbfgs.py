"""L-BFGS: approximates the inverse Hessian from the last few steps.

With s_i = x_(i+1) - x_i, y_i = g_(i+1) - g_i and rho_i = 1 / <s_i, y_i> of the last `memory_size` steps, newest
first,

    q <- g
    alpha_i <- rho_i <s_i, q>,    q <- q - alpha_i y_i              from the newest to the oldest
    r <- gamma q                                                    gamma = <s, y> / <y, y> of the newest
    beta_i <- rho_i <y_i, r>,     r <- r + (alpha_i - beta_i) s_i   from the oldest to the newest

and the step is -r (Nocedal, 1980, "Updating Quasi-Newton Matrices with Limited Storage"; Liu and Nocedal, 1989, "On
the Limited Memory BFGS Method for Large Scale Optimization"). A pair without positive curvature, <s, y> <= eps |s|
|y|, is not kept, so that -r stays a descent direction. The first step is at most as long as 1, or as the gradient
if that is shorter.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gradtx import leaf, mesh, tree
from gradtx.core.branch import inlined
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.core.slots import counter, per_param, per_tree, stack
from gradtx.core.state import counted
from gradtx.core.stateful import Stateful
from gradtx.core.value import flag, integer
from gradtx.curvature.linesearch import descending
from gradtx.curvature.zoom import STRONG_WOLFE
from gradtx.types import Params, State, Updates

__all__ = ["ScaleByLBFGSState", "lbfgs", "remembered", "scale_by_lbfgs"]


class ScaleByLBFGSState(NamedTuple):
    """State of `scale_by_lbfgs`: the last parameters and gradient, the kept pairs with their 1 / <s, y>, and gamma.

    `count` is the number of steps and `pairs` the number of pairs kept so far. The memories are trees like the
    parameters, with an axis of length `memory_size` in front of every leaf.
    """

    count: Array = counter()
    params: Array = per_param()
    updates: Array = per_param()
    diff_params_memory: Array = stack(length="memory_size")
    diff_updates_memory: Array = stack(length="memory_size")
    weights_memory: Array = per_tree(start="first_weights", signed=False)
    pairs: Array = counter()
    identity_scale: Array = per_tree(start=1.0, signed=False)


class scale_by_lbfgs(Stateful, state=ScaleByLBFGSState, needs=("params",)):
    """Multiplies the gradient by the L-BFGS approximation of the inverse Hessian.

    The direction of `lbfgs` without learning rate and line search, to build your own chain. `update` needs params.

    Args:
      memory_size: Number of steps from which the inverse Hessian is approximated. At least 1; 10 by default, and 5
        to 20 is usual.
      scale_init_precond: Whether to scale the approximation by the curvature of the newest step, and the first step
        to a length of at most 1. True by default; False starts from the identity.

    Returns:
      A transformation. State: `2 * memory_size + 2` arrays per parameter (88 bytes per parameter in float32 by
      default).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_lbfgs()
    >>> curvature = jnp.array([1.0, 10.0])
    >>> x = jnp.array([1.0, 0.0])
    >>> direction, state = tx.update(curvature * x, tx.init(x), x)
    >>> x = jnp.array([0.5, 0.5])
    >>> print(tx.update(curvature * x, state, x)[0].shape)
    (2,)
    """

    memory_size: int = integer(default=10, ge=1)
    scale_init_precond: bool = flag(default=True)

    def first_weights(self, params: Any) -> Array:
        """Returns a zero for each pair."""
        return jnp.zeros(self.memory_size, tree.number(params, 0.0).dtype)

    def step(
        self, updates: Updates, state: State, params: Params, extra: dict[str, Any]
    ) -> tuple[Any, ScaleByLBFGSState]:
        return _step(updates, state, params, self.scale_init_precond)


# Operations on one leaf are jitted, so that they are traced and lowered once for all leaves of a shape.


@jax.jit
def _as(x: Array, like: Array) -> Array:
    return leaf.narrow(leaf.widen(x), like.dtype)


@jax.jit
def _dot_leaf(x: Array, y: Array) -> Array:
    return jnp.sum((jnp.conj(x) * y).real)


@jax.jit
def _axpy_leaf(a: Array, x: Array, y: Array) -> Array:
    return y + a.astype(leaf.compute_dtype(y.dtype)) * x


@jax.jit
def _put(memory: Array, new: Array, slot: Array, kept: Array) -> Array:
    old = _taken(memory, slot)
    new = jnp.where(kept, mesh.put(new, mesh.place(old)), old).astype(memory.dtype)
    return lax.dynamic_update_index_in_dim(memory, new, slot, 0)


@jax.jit
def _taken(memory: Array, slot: Array) -> Array:
    return lax.dynamic_index_in_dim(memory, slot, keepdims=False)


_minus = jax.jit(jnp.subtract)


def _wide(x: Any, like: Any) -> Any:
    return jax.tree.map(lambda a, b: _as(jnp.asarray(a), b), x, like)


@jax.jit
def _dot(a: Any, b: Any) -> Array:
    return sum(map(_dot_leaf, jax.tree.leaves(a), jax.tree.leaves(b)), jnp.zeros((), jnp.float32))


def _axpy(a: Array, x: Any, y: Any) -> Any:
    return jax.tree.map(lambda u, v: _axpy_leaf(a, u, v), x, y)


def remembered(state: ScaleByLBFGSState, x: Any, g: Any) -> ScaleByLBFGSState:
    """Returns the state with the newest pair, if its curvature is positive."""
    s, y = jax.tree.map(_minus, x, state.params), jax.tree.map(_minus, g, state.updates)
    sy = _dot(s, y)
    s_norm, y_norm = tree.norm(s).astype(sy.dtype), tree.norm(y).astype(sy.dtype)
    kept = (state.count > 0) & (sy > jnp.finfo(sy.dtype).eps * s_norm * y_norm)
    slot = state.pairs % state.weights_memory.shape[0]

    def put(memory: Array, new: Array) -> Array:
        return _put(memory, new, slot, kept)

    # <s, y> / <y, y>, without squaring a norm, which could overflow or underflow.
    scale = jnp.where(kept, leaf.ratio(leaf.ratio(sy, y_norm), y_norm), state.identity_scale)
    return ScaleByLBFGSState(
        count=counted(state.count),
        pairs=jnp.where(kept, counted(state.pairs), state.pairs),
        params=x,
        updates=g,
        diff_params_memory=jax.tree.map(put, state.diff_params_memory, s),
        diff_updates_memory=jax.tree.map(put, state.diff_updates_memory, y),
        weights_memory=put(state.weights_memory, 1 / jnp.where(kept, sy, 1)),
        identity_scale=scale.astype(state.identity_scale.dtype),
    )


@functools.partial(inlined, static_argnums=3)
def _step(updates: Updates, state: ScaleByLBFGSState, params: Params, scaled: bool) -> tuple[Any, ScaleByLBFGSState]:
    g = _wide(updates, state.updates)
    state = remembered(state, _wide(params, state.params), g)
    size = state.weights_memory.shape[0]
    newest_first = (state.pairs - 1 - jnp.arange(size)) % size

    def pair(i: Array) -> tuple[Any, Any, Array]:
        s, y = jax.tree.map(lambda m: _taken(m, i), (state.diff_params_memory, state.diff_updates_memory))
        return s, y, state.weights_memory[i]

    def down(q: Any, i: Array) -> tuple[Any, Array]:
        s, y, weight = pair(i)
        alpha = weight * _dot(s, q)
        return _axpy(-alpha, y, q), alpha

    def up(r: Any, i_alpha: tuple[Array, Array]) -> tuple[Any, None]:
        i, alpha = i_alpha
        s, y, weight = pair(i)
        return _axpy(alpha - weight * _dot(y, r), s, r), None

    q, alphas = mesh.scan(down, g, newest_first)
    if scaled:
        first = 1 / jnp.maximum(tree.norm(g), 1)
        gamma = jnp.where(state.pairs > 0, state.identity_scale, first.astype(state.identity_scale.dtype))
        q = jax.tree.map(lambda x: x * gamma.astype(leaf.compute_dtype(x.dtype)), q)
    r, _ = mesh.scan(up, q, (newest_first, alphas), reverse=True)
    return jax.tree.map(lambda x, u: leaf.narrow(x, jnp.result_type(u)), r, updates), state


@constructor
def lbfgs(
    learning_rate: HyperArg | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: Any = STRONG_WOLFE,
) -> chain:
    """L-BFGS with a line search, the standard method for smooth, deterministic functions.

    Use it (with `gx.minimize`) for full-batch problems with any number of parameters. On mini-batches its
    curvature estimates are noisy: use a first-order method there.

    Args:
      learning_rate: Factor of the direction before the line search, a number or a schedule. None (default) for 1,
        which is right with a line search.
      memory_size: Number of steps from which the inverse Hessian is approximated. At least 1; 10 by default, and 5
        to 20 is usual.
      scale_init_precond: Whether to scale the approximation by the curvature of the newest step, and the first step
        to a length of at most 1. True by default.
      linesearch: A transformation that chooses the step size and comes last in the chain. By default a zoom search
        for the strong Wolfe conditions; None for none.

    Returns:
      A transformation whose `update` needs params, and with a line search `value`, `grad` and `value_fn`. State:
      `2 * memory_size + 2` arrays per parameter, and one more with a line search (92 bytes per parameter in float32
      by default).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> rosenbrock = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    >>> result = gx.minimize(rosenbrock, jnp.array([-1.2, 1.0]), gx.lbfgs(), tol=1e-3)
    >>> print(result.params.round(2))
    [1. 1.]

    References:
      Liu and Nocedal, 1989, "On the Limited Memory BFGS Method for Large Scale Optimization".
    """
    return descending(scale_by_lbfgs(memory_size, scale_init_precond), learning_rate, linesearch)
