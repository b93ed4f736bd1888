"""Converts a state from one storage format to another, in the middle of a run."""

from __future__ import annotations

from typing import Any

import jax
from jax import Array

from gradtx import checks, leaf
from gradtx.core.chain import chain
from gradtx.core.packed import Packed, is_packed, unpacked
from gradtx.core.slots import per_param
from gradtx.core.state import declared
from gradtx.core.transformation import as_transformation
from gradtx.storage.stored import stored
from gradtx.types import Params, State

__all__ = ["convert_state"]


def convert_state(tx_a: Any, state: State, tx_b: Any, params: Params = None) -> Any:
    """Converts a state of `tx_a` to a state of `tx_b`, which differs only in its storage formats (`gx.stored`).

    Use it to change the format in the middle of a run, or to decode a state that `gx.stored` encoded, for instance for
    a checkpoint.

    Args:
      tx_a: The transformation to which the state belongs.
      state: The state, as `tx_a.init` or `tx_a.update` returned it.
      tx_b: The same transformation with other formats, or without `gx.stored`.
      params: The parameters, or their shapes. None (default) if the state has an array per parameter, from which their
        tree is known.

    Returns:
      The state in the formats of `tx_b`.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> plain, small = gx.adam(1e-3), gx.stored(gx.adam(1e-3), {"mu": "int8"}, min_size=1)
      >>> state = gx.convert_state(small, small.init(jnp.ones(3)), plain)
      >>> print(state[0].mu)
      [0. 0. 0.]

    Raises:
      TypeError: `tx_a` or `tx_b` is not a transformation.
      ValueError: The state does not belong to `tx_a`, `tx_b` has a state of another structure, or `params` is needed.
    """
    tx_a, tx_b = as_transformation("convert_state", tx_a), as_transformation("convert_state", tx_b)
    params = _outline(tx_a, unpacked(state)) if params is None else params
    if params is None:
        raise ValueError(
            "convert_state: the tree of the parameters cannot be found from this state. Pass the parameters, or their "
            "shapes, as params."
        )
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(checks.shape(p), checks.dtype(p)), params)
    for tx, name in ((tx_a, "tx_a"), (tx_b, "tx_b")):
        _check_alike(name, state, jax.eval_shape(tx.init, shapes), exactly=tx is tx_a)
    template, clocks = jax.eval_shape(tx_b.init, shapes), _clocks(tx_b, shapes)
    return jax.tree.map(lambda like, x: _like(like, x, clocks), template, unpacked(state), is_leaf=is_packed)


def _outline(tx: Any, state: State) -> Any:
    """Returns a tree like the parameters, from the state of the first link that has one; None if there is none."""
    if isinstance(tx, stored):
        return _outline(tx.inner, state)
    if isinstance(tx, chain):
        states = tx.child_states(state)
        found = (_outline(link, states[name]) for name, link in tx.children().items())
        return next((tree for tree in found if tree is not None), None)
    slots = {} if getattr(tx, "State", None) is None else declared(tx.State)
    fields = [name for name, slot in slots.items() if isinstance(slot, per_param) and slot.present(tx)]
    return getattr(state, fields[0]) if fields else None


def _check_alike(name: str, state: State, expected: Any, *, exactly: bool) -> None:
    """Raises unless the state has the expected tree and shapes; packed arrays count as plain ones unless `exactly`."""
    if not exactly:
        state, expected = (jax.tree.map(_bare, x, is_leaf=is_packed) for x in (state, expected))
    alike = jax.tree.structure(state) == jax.tree.structure(expected)
    if not alike or list(map(jax.numpy.shape, jax.tree.leaves(state))) != [x.shape for x in jax.tree.leaves(expected)]:
        what = "it has arrays of other shapes" if alike else checks.difference("it", state, f"{name}.init", expected)
        raise ValueError(
            f"convert_state: the state does not fit {name}: {what}. tx_a must be the transformation that made the "
            "state, and tx_b may differ from it only in its storage formats (gx.stored)."
        )


def _bare(x: Any) -> Any:
    return jax.ShapeDtypeStruct(checks.shape(x), x.dtype)


def _clocks(tx: Any, shapes: Any) -> list[Any]:
    """Returns the initial counters of the formats' random bits; the compiler drops the rest of `init`."""

    def clocks() -> list[Any]:
        state = tx.init(jax.tree.map(lambda p: jax.numpy.zeros(p.shape, p.dtype), shapes))
        return [x.clock for x in jax.tree.leaves(state, is_leaf=is_packed) if is_packed(x)]

    return jax.jit(clocks)()


def _like(like: Any, x: Array, clocks: list[Any]) -> Any:
    """Returns the array in the format of `like`; a format that rounds at random takes the next counter in `clocks`."""
    if not isinstance(like, Packed):
        return leaf.narrow(x, like.dtype) if jax.numpy.issubdtype(like.dtype, jax.numpy.inexact) else x
    new = Packed.of(like.format, x, "")
    return Packed(like.format, like.like, new.parts, clocks.pop(0))
