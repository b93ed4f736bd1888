"""One of two computations, by a boolean that may be known only while the program runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from gradtx import checks, leaf, mesh

__all__ = ["alike", "branch"]


def branch(who: str, pred: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """`then()` where `pred` is true, else `otherwise()`: two trees of arrays of the same structure.

    Only what is needed is computed. Outside of traced code Python takes the branch, so that nothing is compiled anew;
    inside it is a `lax.cond`. What `then` returns takes the dtypes of `otherwise`.

    Raises:
      TypeError: the two trees differ.
      ValueError: two corresponding leaves have different shapes.
    """
    if not isinstance(pred, Tracer):
        like = otherwise()
        return alike(who, then(), like) if pred else like
    like = jax.eval_shape(otherwise)
    return mesh.cond(pred, lambda: alike(who, then(), like), otherwise)


def alike(who: str, tree: Any, like: Any) -> Any:
    """`tree` in the dtypes of `like`, arrays that are not weakly typed.

    Raises:
      TypeError: they are not one tree.
      ValueError: two corresponding leaves have different shapes.
    """
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise TypeError(
            f"{who}: the inner transformation's updates or state changed their structure:\n"
            f"  {jax.tree.structure(like)}\n  {jax.tree.structure(tree)}\n"
            "It must return updates like those that it got, and a state like that of its init."
        )
    new, old = jax.tree.leaves(tree), jax.tree.leaves(like)
    checks.same_shapes(who, "what was returned", tree, new, "what it replaces", old)
    return jax.tree.map(_as, tree, like)


def _as(x: Any, like: Any) -> Any:
    x = jnp.asarray(x)
    dtype = jnp.result_type(like)
    if x.dtype == dtype and not x.weak_type:
        return x
    return leaf.narrow(x, dtype) if jnp.issubdtype(dtype, jnp.inexact) else lax.convert_element_type(x, dtype)
