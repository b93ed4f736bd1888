"""Helpers of the losses: convert arguments to float32 or wider, check shapes and labels, and keep results finite."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from gradtx import checks, leaf
from gradtx.core.hyper import Limits

__all__ = [
    "among",
    "axes",
    "floats",
    "in_range",
    "known",
    "mask",
    "minus",
    "parameter",
    "product",
    "returned",
    "rows",
    "same_shape",
    "saturated",
    "spoiled",
    "unlike",
    "whole",
]


def floats(who: str, *, also_integers: Sequence[str] = (), **given: Any) -> tuple[list[Array], np.dtype]:
    """Returns the arguments as arrays of one dtype, float32 or wider, and the dtype to which JAX promotes them.

    Raises a TypeError if an argument is not a real floating-point array. Arguments named in `also_integers` may also
    hold integers or booleans.
    """
    arrays: dict[str, Array] = {}
    for name, x in given.items():
        if x is None or isinstance(x, str):
            raise TypeError(f"{who}: {name} must be an array of real floating-point numbers, got {checks.shown(x)}.")
        arrays[name] = x = x if isinstance(x, Array) else jnp.asarray(x)
        if jnp.issubdtype(x.dtype, jnp.floating) or (name in also_integers and not jnp.iscomplexobj(x)):
            continue
        raise TypeError(
            f"{who}: {name} has dtype {x.dtype}; it must hold real floating-point numbers. "
            f"Convert it first: {name}.astype(jnp.float32)."
        )
    kinds = [x for x in arrays.values() if jnp.issubdtype(x.dtype, jnp.floating)]
    dtype = np.dtype(jnp.result_type(*kinds)) if kinds else np.dtype(jnp.result_type(float))
    return [x.astype(leaf.accumulator_dtype(dtype)) for x in arrays.values()], dtype


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def returned(x: Array, dtype: Any) -> Array:
    """Casts a result to the dtype of the arguments.

    A number too large for `dtype` becomes the largest number of `dtype`, and keeps its derivative.
    """
    return leaf.narrow(x, dtype)


@returned.defjvp
def _returned_jvp(dtype: Any, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return returned(*primals, dtype), tangents[0].astype(dtype)


@jax.custom_jvp
def saturated(x: Array, finite: Array) -> Array:
    """Clips `x` to the dtype's finite range wherever `finite` is true; the derivative is the derivative of `x`.

    `finite` says where the arguments that produced `x` were finite. So finite arguments give a finite loss, and a loss
    that was clipped still has a useful gradient.
    """
    bound = float(jnp.finfo(x.dtype).max)
    return jnp.where(finite, jnp.clip(x, -bound, bound), x)


@saturated.defjvp
def _saturated_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    return saturated(*primals), tangents[0]


def minus(a: Array, b: Array) -> Array:
    """Returns a - b, clipped to the finite range where a and b are finite."""
    return saturated(a - b, jnp.isfinite(a) & jnp.isfinite(b))


def product(a: Array | float, b: Array) -> Array:
    """Returns a * b, clipped to the finite range where a and b are finite.

    If a is 0 and b infinite, the product is 0, so that a weight of 0 leaves a loss out.
    """
    b = jnp.where(jnp.equal(a, 0) & jnp.isinf(b), 0, b)
    return saturated(a * b, jnp.isfinite(a) & jnp.isfinite(b))


def unlike(who: str, name: str, shape: Any, like: str, like_shape: Any, wanted: str = "") -> ValueError:
    """Returns the error for an argument whose shape does not match the shape of another argument."""
    advice = wanted or f"Nothing is broadcast here: give {name} the shape of {like}"
    return ValueError(f"{who}: {name} has shape {tuple(shape)} and {like} has shape {tuple(like_shape)}. {advice}.")


def same_shape(who: str, **given: Any) -> None:
    """Raises a ValueError unless all arguments have the shape of the first."""
    (like, first), *others = given.items()
    for name, x in others:
        if np.shape(x) != np.shape(first):
            raise unlike(who, name, np.shape(x), like, np.shape(first))


def parameter(who: str, name: str, value: Any, like: Array, **limits: Any) -> Any:
    """Checks an argument of a loss: a number within the limits is returned as it is.

    An array that broadcasts to `like` is returned with the shape and dtype of `like`.
    """
    value = Limits(**limits).check(who, name, value, schedules=False)
    if leaf.is_number(value):
        return value
    shape = np.shape(value)
    if len(shape) > like.ndim or any(n not in (1, m) for n, m in zip(shape[::-1], like.shape[::-1], strict=False)):
        raise unlike(who, name, shape, "the loss", like.shape, f"Give {name} as one number, or one for each loss")
    return jnp.broadcast_to(jnp.asarray(value).astype(like.dtype), like.shape)


def axes(who: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """Returns the axes as a tuple, each counted from 0; None stands for all axes."""
    given = tuple(range(ndim)) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    try:
        given = tuple(map(operator.index, given))
    except TypeError:
        message = f"{who}: axis must be an integer, a tuple of integers or None, got {checks.shown(axis)}."
        raise TypeError(message) from None
    found = tuple(i + ndim if i < 0 else i for i in given)
    if any(not 0 <= i < ndim for i in found) or len(set(found)) < len(found):
        raise ValueError(
            f"{who}: axis is {axis}, and the array has {ndim} axes. Name each axis once, from {-ndim} to {ndim - 1}."
        )
    return found


def rows(x: Array, over: tuple[int, ...]) -> Array:
    """Returns the array with the axes `over` merged into its last axis, in the given order."""
    batch = tuple(i for i in range(x.ndim) if i not in over)
    x = jnp.transpose(x, (*batch, *over))
    return x if len(over) == 1 else x.reshape(*x.shape[: len(batch)], -1)


def mask(who: str, where: Any, like: str, shape: tuple[int, ...], over: tuple[int, ...]) -> Array | None:
    """Returns `where` as booleans of the given shape, or None if `where` is None.

    `where` may lack all axes in `over`, and may have length 1 in any axis; the missing entries are broadcast.
    """
    if where is None:
        return None
    found = jnp.asarray(where).astype(bool)
    if found.ndim == len(shape) - len(over) and found.ndim != len(shape):
        found = jnp.expand_dims(found, over)
    if found.ndim != len(shape) or any(n not in (1, m) for n, m in zip(found.shape, shape, strict=True)):
        wanted = f"Give it the shape of {like}, with or without axis {over if len(over) != 1 else over[0]}"
        raise unlike(who, "where", np.shape(where), like, shape, wanted)
    return jnp.broadcast_to(found, shape)


def known(x: Any) -> bool:
    """Whether the values of an array can be read: the array is not traced, and this process holds all of its shards."""
    return not isinstance(x, Tracer) and getattr(x, "is_fully_addressable", True)


def whole(who: str, name: str, labels: Any) -> Array:
    """Returns labels as integers of at least 32 bits; raises a TypeError if they are not integers."""
    labels = labels if isinstance(labels, Array) else jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{who}: {name} has dtype {labels.dtype}; it must hold integers.")
    return labels.astype(jnp.promote_types(labels.dtype, np.int32))


def in_range(
    who: str, name: str, labels: Array, allowed: range, *, counted: Any = True, advice: str = ""
) -> tuple[Array, Array | None]:
    """Returns labels clipped to the allowed range, and for traced labels where they were out of range.

    The second result is None for concrete labels: if one is out of range where `counted` is true, a ValueError is
    raised. For traced labels, pass the second result to `spoiled`, which turns the losses into NaN.
    """
    if known(labels) and known(counted):
        here, wanted = np.asarray(labels), f"in [{allowed.start}, {allowed.stop})"
        _refuse(who, name, here, (here < allowed.start) | (here >= allowed.stop), counted, wanted, advice)
        outside = None
    else:
        outside = ((labels < allowed.start) | (labels >= allowed.stop)) & counted
    return jnp.clip(labels, allowed.start, allowed.stop - 1), outside


def among(who: str, name: str, values: Any, allowed: tuple[int, ...], advice: str) -> Array | None:
    """Checks that labels are allowed numbers: returns where traced labels are not; raises for concrete labels."""
    if known(values):
        here = np.asarray(values)
        _refuse(who, name, here, ~np.isin(here, allowed), True, f"one of {', '.join(map(str, allowed))}", advice)
        return None
    return ~jnp.isin(values, jnp.asarray(allowed, values.dtype))


def spoiled(x: Array, outside: Array | None) -> Array:
    """Turns losses or scores, and their derivatives, into NaN where labels are out of range (`outside`)."""
    return x if outside is None else x * jnp.where(outside, jnp.nan, 1).astype(x.dtype)


def _refuse(who: str, name: str, values: Any, wrong: Any, counted: Any, wanted: str, advice: str) -> None:
    places = np.argwhere(wrong & np.asarray(counted))
    if len(places):
        at = tuple(map(int, places[0]))
        where = f" at index {', '.join(map(str, at))}" if at else ""
        raise ValueError(f"{who}: {name} must be {wanted}, got {values[at]:g}{where}. {advice}".rstrip())
