"""Arithmetic on trees, leaf by leaf. 16-bit floats are computed in float32, and the result is rounded once."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gradtx import checks, leaf

__all__ = ["add", "add_scale", "clip", "conj", "div", "mul", "real", "scale", "sub", "where"]


def add(tree_x: Any, tree_y: Any, *other_trees: Any) -> Any:
    """Adds two or more trees.

    Args:
      tree_x: The first tree of arrays.
      tree_y: The second tree of arrays, with the structure of the first.
      *other_trees: Further trees with the same structure.

    Returns:
      The sum, a tree like the first.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.add({"a": jnp.ones(2)}, {"a": jnp.ones(2)}, {"a": jnp.array([0.0, 3.0])})["a"])
    [2. 5.]

    Raises:
      ValueError: the trees differ in structure.
    """
    return _map("add", lambda *xs: functools.reduce(operator.add, xs), tree_x=tree_x, tree_y=tree_y, other=other_trees)


def sub(tree_x: Any, tree_y: Any) -> Any:
    """Subtracts one tree from another: `tree_x - tree_y`.

    Args:
      tree_x: The first tree of arrays.
      tree_y: The second tree of arrays, with the structure of the first.

    Returns:
      The difference, a tree like the first.

    >>> import gradtx as gx
    >>> gx.tree.sub({"a": 3.0, "b": None}, {"a": 1.0, "b": None})
    {'a': 2.0, 'b': None}

    Raises:
      ValueError: the trees differ in structure.
    """
    return _map("sub", operator.sub, tree_x=tree_x, tree_y=tree_y)


def mul(tree_x: Any, tree_y: Any) -> Any:
    """Multiplies two trees, entry by entry.

    Args:
      tree_x: The first tree of arrays.
      tree_y: The second tree of arrays, with the structure of the first.

    Returns:
      The product, a tree like the first.

    >>> import gradtx as gx
    >>> gx.tree.mul({"a": 3.0}, {"a": 2.0})
    {'a': 6.0}

    Raises:
      ValueError: the trees differ in structure.
    """
    return _map("mul", operator.mul, tree_x=tree_x, tree_y=tree_y)


def div(tree_x: Any, tree_y: Any) -> Any:
    """Divides one tree by another, entry by entry: `tree_x / tree_y`.

    Args:
      tree_x: The first tree of arrays.
      tree_y: The second tree of arrays, with the structure of the first.

    Returns:
      The quotient, a tree like the first.

    >>> import gradtx as gx
    >>> gx.tree.div({"a": 3.0}, {"a": 2.0})
    {'a': 1.5}

    Raises:
      ValueError: the trees differ in structure.
    """
    return _map("div", operator.truediv, tree_x=tree_x, tree_y=tree_y)


def scale(scalar: ArrayLike, tree: Any) -> Any:
    """Multiplies a tree by a number.

    Args:
      scalar: The number, or an array of shape ().
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      The product, a tree like `tree`.

    >>> import gradtx as gx
    >>> gx.tree.scale(2.0, {"a": 3.0})
    {'a': 6.0}
    """
    return jax.tree.map(lambda x: _wide(operator.mul, scalar, x), tree)


def add_scale(tree_x: Any, scalar: ArrayLike, tree_y: Any) -> Any:
    """Adds a multiple of one tree to another: `tree_x + scalar * tree_y`.

    Args:
      tree_x: The first tree of arrays. Where it has None, the result has None.
      scalar: The factor of the second tree.
      tree_y: The second tree of arrays, with the structure of the first.

    Returns:
      The sum, a tree like the first.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.add_scale({"a": jnp.ones(2)}, -0.5, {"a": jnp.arange(2.0)})["a"])
    [1.  0.5]
    """
    scalar = jnp.asarray(scalar)

    def one(x: Any, y: Any) -> Any:
        return None if x is None else _wide(lambda x, c, y: x + c * y, x, scalar, y)

    return jax.tree.map(one, tree_x, tree_y, is_leaf=lambda x: x is None)


def clip(tree: Any, min_value: ArrayLike | None = None, max_value: ArrayLike | None = None) -> Any:
    """Clips the entries of a tree to an interval.

    Args:
      tree: A tree of arrays, such as parameters or gradients. Leaves must be real.
      min_value: The lower bound. None (default) for no bound.
      max_value: The upper bound. None (default) for no bound.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.clip({"a": jnp.array([-2.0, 0.5, 2.0])}, -1, 1)["a"])
    [-1.   0.5  1. ]

    Raises:
      ValueError: a leaf is complex: complex numbers have no order.
    """
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.iscomplexobj(x):
            raise ValueError(
                f"clip: at {checks.keystr(path)} tree is complex, and complex numbers have no order. Clip the modulus "
                "with gx.clip, or the real and the imaginary part as two leaves."
            )
    return jax.tree.map(lambda x: jnp.clip(x, min_value, max_value), tree)


def conj(tree: Any) -> Any:
    """Takes the complex conjugate of a tree.

    Use it to turn JAX's gradients of complex parameters into directions of ascent.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.conj(jnp.array([1 + 2j])))
    [1.-2.j]
    """
    return jax.tree.map(jnp.conj, tree)


def real(tree: Any) -> Any:
    """Takes the real part of a tree.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      A tree of real arrays.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.real(jnp.array([1 + 2j])))
    [1.]
    """
    return jax.tree.map(jnp.real, tree)


def where(condition: ArrayLike, tree_x: Any, tree_y: Any) -> Any:
    """Selects entries from two trees by a condition.

    Args:
      condition: A boolean, or an array of booleans that broadcasts with every leaf.
      tree_x: The first tree of arrays, taken where the condition is true.
      tree_y: The second tree of arrays, with the structure of the first. Taken where the condition is false.

    Returns:
      A tree like the first.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.where(jnp.array([True, False]), {"a": jnp.ones(2)}, {"a": jnp.zeros(2)})["a"])
    [1. 0.]

    Raises:
      ValueError: the trees differ in structure.
    """
    _same("where", tree_x=tree_x, tree_y=tree_y)
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), tree_x, tree_y)


def _map(who: str, f: Callable[..., Any], *, other: tuple[Any, ...] = (), **trees: Any) -> Any:
    named = trees | {f"other_trees[{i}]": tree for i, tree in enumerate(other)}
    _same(who, **named)
    return jax.tree.map(lambda *xs: _wide(f, *xs), *named.values())


def _same(who: str, **trees: Any) -> None:
    """Raises a ValueError unless all trees have the structure of the first."""
    (first, like), *others = trees.items()
    for name, tree in others:
        if jax.tree.structure(tree) != jax.tree.structure(like):
            raise checks.tree_mismatch(who, name, tree, first, like)


def _wide(f: Callable[..., Any], *xs: Any) -> Any:
    """Calls `f` on arrays and numbers; 16-bit floats are computed in float32."""
    dtype = jnp.result_type(*xs)
    if not jnp.issubdtype(dtype, jnp.floating) or leaf.accumulator_dtype(dtype) == dtype:
        return f(*xs)
    return leaf.narrow(f(*(jnp.asarray(x, leaf.accumulator_dtype(dtype)) for x in xs)), dtype)
