"""A box of parameters, lower <= x <= upper entry by entry, and what a method needs to stay in it.

At x, the box reduces a gradient g to the projected step

    x - P(x - g) = clip(g, x - upper, x - lower),

which is zero exactly where bounds block every descent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import checks, leaf, mesh
from gradtx.types import Params, Updates

__all__ = ["Box", "bound", "box"]


class Box(NamedTuple):
    """Two trees like the parameters, in float32 or wider, with bounds that the parameters' dtypes can represent."""

    lower: Any
    upper: Any

    def nearest(self, params: Params) -> Any:
        """Moves every entry of the parameters into the box; the derivative is the identity's."""
        return jax.tree.map(lambda p, low, high: _put(jnp.asarray(p), low, high), params, *self)

    def reduced(self, params: Params, grad: Any) -> Any:
        """Returns the part of a gradient that the box leaves."""

        def left(p: Any, g: Any, low: Array, high: Array) -> Array:
            p, g = leaf.widen(jnp.asarray(p)), jnp.asarray(g)
            return leaf.narrow(jnp.clip(leaf.widen(g), p - high, p - low), g.dtype)

        return jax.tree.map(left, params, grad, *self)

    def longest(self, params: Params, step: Any) -> Array:
        """Returns the largest factor by which a step can be multiplied without leaving the box."""

        def reach(p: Any, d: Array, low: Array, high: Array) -> Array:
            ahead = jnp.where(d > 0, high, low) - leaf.widen(jnp.asarray(p))
            return jnp.min(jnp.where(d == 0, jnp.inf, ahead / jnp.where(d == 0, 1, d)), initial=jnp.inf)

        parts = jax.tree.leaves(jax.tree.map(reach, params, step, *self))
        return lax.stop_gradient(jnp.min(jnp.stack(parts)))

    def kept(self, params: Params, updates: Updates, like: Any) -> Any:
        """Returns the updates in the dtypes of `like`, changed so that `apply_updates` stays in the box despite
        rounding.

        If u is the difference of bound and parameter, p + u may round to a number beyond the bound. As u itself is
        rounded by at most half a unit, the next number on the inner side is safe.
        """

        def keep(p: Any, u: Array, low: Array, high: Array, g: Any) -> Array:
            p, dtype = jnp.asarray(p), jnp.result_type(g)
            wide = leaf.widen(p)
            u = leaf.narrow(jnp.clip(u, low - wide, high - wide), dtype)
            there = leaf.narrow(wide + leaf.widen(u), p.dtype)
            plain = lax.stop_gradient(u)
            inner = jnp.where(there < low, jnp.nextafter(plain, jnp.full_like(u, jnp.inf)), plain)
            inner = jnp.where(there > high, jnp.nextafter(plain, jnp.full_like(u, -jnp.inf)), inner)
            return u + (inner - plain)

        return jax.tree.map(keep, params, updates, *self, like)


@jax.custom_jvp
def _put(p: Array, low: Array, high: Array) -> Array:
    return jnp.clip(leaf.widen(p), low, high).astype(p.dtype)


@_put.defjvp
def _put_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    return _put(*primals), tangents[0]


def bound(who: str, name: str, value: Any) -> Any:
    """Returns a bound as it is stored: a number, a real array, or a tree of them."""

    def one(path: Any, x: Any) -> Any:
        where = f"{name}{jax.tree_util.keystr(path)}"
        if isinstance(x, (np.ndarray, np.generic)):
            x = x.item() if x.ndim == 0 else jnp.asarray(x)
        if not leaf.is_number(x) and (not isinstance(x, jax.Array) or jnp.iscomplexobj(x)):
            raise TypeError(
                f"{who}: {where} must be a number or a real array, or a tree of them like the parameters, got "
                f"{checks.shown(x)}. For no bound give -inf or inf."
            )
        if leaf.is_number(x) and np.isnan(x):
            raise ValueError(f"{who}: {where} is NaN. For no bound give -inf or inf.")
        return float(x) if leaf.is_number(x) else x

    return jax.tree_util.tree_map_with_path(one, value)


def box(who: str, lower: Any, upper: Any, params: Params) -> Box:
    """Returns the box with its bounds spread over the parameters; raises if they do not fit."""
    return Box(_spread(who, "lower", lower, params), _spread(who, "upper", upper, params))


def _spread(who: str, name: str, value: Any, params: Params) -> Any:
    """Returns a bound as a tree like the parameters; a single number or array is used for every leaf."""

    def full(b: Any, path: Any, p: Any) -> Array:
        dtype, shape = jnp.result_type(p), np.shape(p)
        try:
            fits = np.broadcast_shapes(np.shape(b), shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{who}: at {checks.keystr(path)} {name} has shape {np.shape(b)} and params has shape {shape}. Give "
                "a number, or an array that can be broadcast to the parameter."
            )
        axes = tuple(range(len(shape) - np.ndim(b)))
        held = jnp.asarray(b).astype(dtype).astype(leaf.compute_dtype(dtype))
        return mesh.put(jnp.broadcast_to(jnp.expand_dims(held, axes), shape), mesh.place(p))

    def below(path: Any, b: Any, part: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda rest, p: full(b, (*path, *rest), p), part)

    if jax.tree_util.all_leaves([value]):
        return below((), value, params)
    try:
        return jax.tree_util.tree_map_with_path(below, value, params)
    except ValueError as error:
        if str(error).startswith(who):
            raise
        raise checks.tree_mismatch(who, name, value, "params", params) from None


def inside(value_fn: Callable[[Any], Any], box: Box) -> Callable[[Any], Any]:
    """Returns a function that evaluates `value_fn` only at points of the box."""
    return lambda params: value_fn(box.nearest(params))
