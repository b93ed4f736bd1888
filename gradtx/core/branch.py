"""Control flow for values that may be known only while the program runs.

Outside of traced code, Python branches and loops. There `lax.cond` and `lax.while_loop` would compile their
functions again at every call, because these are closures made for that call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer

from gradtx import checks, leaf, mesh

__all__ = ["alike", "branch", "fold", "inlined", "is_traced", "loop"]


def is_traced(tree: Any) -> bool:
    """Whether any leaf is known only while the program runs."""
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))


def inlined(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Jits a function for eager calls; in traced code it is called directly, because it is called once there."""
    jitted = jax.jit(function, **options)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args) if is_traced(args) else jitted(*args)

    return call


def loop(go_on: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Repeats `body` while `go_on` returns true; in traced code this is a `lax.while_loop`.

    Args:
      go_on: A function from the carry to a boolean. It may close over traced values.
      body: A function from the carry to the next carry. It may close over traced values.
      carry: The first carry, a tree of arrays.

    Returns:
      The last carry.
    """
    while not is_traced(carry):
        going = go_on(carry)
        if isinstance(going, Tracer):
            break
        if not going:
            return carry
        carry = body(carry)
    return mesh.while_loop(go_on, body, carry)


def fold(function: Callable[[Any, Any], Any], carry: Any, xs: Array) -> Any:
    """Applies `function(carry, x)` to each entry of `xs`, one after the other, and returns the last carry."""
    if is_traced((carry, xs)):
        return mesh.scan(lambda carry, x: (function(carry, x), None), carry, xs)[0]
    return functools.reduce(function, xs, carry)


def branch(who: str, pred: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Returns `then()` if `pred` is true, else `otherwise()`; only one of them is computed.

    Outside of traced code Python takes the branch, so that nothing is compiled again; inside it is a `lax.cond`.

    Args:
      who: The name with which errors begin.
      pred: A boolean, or a scalar array of one.
      then: A function without arguments that returns a tree of arrays.
      otherwise: A function that returns a tree of the same structure and shapes. Its dtypes are those of the
        result.

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
    """Returns `tree` in the dtypes of `like`, with arrays that are not weakly typed.

    Raises:
      TypeError: the trees differ in structure.
      ValueError: two corresponding leaves have different shapes.
    """
    if jax.tree.structure(tree) != jax.tree.structure(like):
        raise TypeError(
            f"{who}: the inner transformation's updates or state changed their structure:\n"
            f"  {jax.tree.structure(like)}\n  {jax.tree.structure(tree)}\n"
            "It must return updates like its input, and a state like the one that its init returns."
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
