"""Reductions of a whole tree to one number: sums, norms, the largest entry. Floats are summed in float32 or wider."""

from __future__ import annotations

import builtins
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from gradtx import checks, leaf, mesh, sums
from gradtx.tree.internal import leaves_of, real_vdot

__all__ = ["allclose", "finite", "max", "min", "nbytes", "norm", "norm_sq", "size", "sum", "vdot"]


def size(tree: Any) -> int:
    """Returns the number of entries of all leaves together.

    Args:
      tree: A tree of arrays or shapes (`jax.ShapeDtypeStruct`).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> gx.tree.size({"a": jnp.ones((2, 3)), "b": 1.0, "c": None})
    7
    """
    return builtins.sum(math.prod(np.shape(x)) for x in jax.tree.leaves(tree))


def nbytes(tree: Any) -> int:
    """Returns the number of bytes of all leaves together.

    Args:
      tree: A tree of arrays or shapes (`jax.ShapeDtypeStruct`).

    >>> import jax, gradtx as gx
    >>> params = {"w": jax.ShapeDtypeStruct((1000,), "float32")}
    >>> state = jax.eval_shape(gx.scale_by_adam().init, params)  # nothing is allocated
    >>> gx.tree.nbytes(state) / gx.tree.size(params)  # two moments, and one counter
    8.004
    """
    return builtins.sum(math.prod(np.shape(x)) * jnp.result_type(x).itemsize for x in jax.tree.leaves(tree))


def norm(
    tree: Any,
    ord: int | float | str | None = None,  # noqa: A002
    squared: bool = False,
    *,
    axes: tuple[int, ...] | None = None,
) -> Array:
    """Computes the norm of a tree, treated as one vector.

    Use it for gradient norms. It is accurate whenever the result can be represented: squares neither overflow nor
    underflow, and 16-bit leaves are summed in float32. An empty tree has norm 0, and the derivative at 0 is 0.

    Args:
      tree: A tree of arrays, such as parameters or gradients.
      ord: Which norm: None (default) or 2 for the Euclidean norm, 1 for the sum of absolute values, `jnp.inf` (or
        'inf') for the largest absolute value.
      squared: Whether to return the square, which needs no root and saturates at the dtype's largest number. False
        by default.
      axes: Take the Euclidean norm over these axes of a single array only, and keep them with length 1. None
        (default) for the norm of the whole tree.

    Returns:
      A scalar in float32 or wider; with `axes`, an array.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.norm({"a": jnp.float16([300, 400]), "b": None}))
    500.0

    Raises:
      ValueError: `ord` is unknown, or `axes` is given together with `ord` or `squared`.
    """
    if isinstance(ord, (tuple, list)) or ord not in (None, 1, 2, math.inf, "inf", "infinity"):
        raise ValueError(
            f"norm: ord must be None, 1, 2 or inf, got {checks.shown(ord)}. For a norm over some axes of one array "
            "write axes=(1,)."
        )
    if axes is not None:
        if squared or ord not in (None, 2):
            raise ValueError("norm: axes is for the Euclidean norm: leave out ord and squared.")
        return jnp.expand_dims(sums.norm(leaves_of(tree, axes), axes), axes)
    if ord in (None, 2):
        return norm_sq(tree) if squared else sums.norm(leaves_of(tree, None))
    sizes = [leaf.widen(jnp.abs(_floating(x))) for x in leaves_of(tree, None)]
    found = max(sizes) if sizes and ord != 1 else sum(sizes)
    return jnp.minimum(found * found, jnp.finfo(found.dtype).max) if squared else found


def norm_sq(tree: Any) -> Array:
    """Computes the squared Euclidean norm of a tree, treated as one vector.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      A scalar in float32 or wider; it saturates at the dtype's largest number.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.norm_sq({"a": jnp.float16([300, 400])}))
    250000.0
    """
    return real_vdot(tree, tree)


def vdot(tree_x: Any, tree_y: Any) -> Array:
    """Computes the inner product of two trees, treated as vectors.

    Args:
      tree_x: The first tree of arrays. It is conjugated.
      tree_y: The second tree of arrays, with the structure of the first.

    Returns:
      A scalar in float32 or wider, which saturates at the dtype's largest number. It is complex if a leaf is
      complex, and an integer if all leaves are integers.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.vdot({"a": jnp.ones(3)}, {"a": jnp.arange(3.0)}))
    3.0

    Raises:
      ValueError: the trees differ in structure, or two leaves in shape.
    """
    checks.same_tree("vdot", "tree_y", tree_y, "tree_x", tree_x)
    xs, ys = ([jnp.asarray(x) for x in jax.tree.leaves(tree)] for tree in (tree_x, tree_y))
    if xs and all(_is_integer(x) for x in xs + ys):
        return mesh.added([(jnp.sum(_long(x) * _long(y)),) for x, y in zip(xs, ys, strict=True)])[0]
    found = real_vdot(xs, ys)
    if not any(map(jnp.iscomplexobj, xs + ys)):
        return found
    # <x, y> = sum of conj(x) y. Its imaginary part is the real part of the sum of conj(i x) y.
    return lax.complex(found, real_vdot([1j * x for x in xs], ys).astype(found.dtype))


def sum(tree: Any, associative_reduction: bool = False) -> Array:  # noqa: A001
    """Sums all entries of all leaves.

    It is accurate whenever the result can be represented, even if partial sums overflow.

    Args:
      tree: A tree of arrays, such as parameters or gradients.
      associative_reduction: Accepted for compatibility with optax; the result is the same. False by default.

    Returns:
      A scalar in float32 or wider; for integers and booleans, an integer.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> float(gx.tree.sum({"a": jnp.float16([40_000, 40_000]), "b": None}))
    80000.0
    """
    checks.flag("sum", "associative_reduction", associative_reduction)
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    if leaves and all(map(_is_integer, leaves)):
        return _count(list(map(jnp.sum, leaves)))
    leaves = [leaf.widen(_floating(x)) for x in leaves]
    found = sums.exact_total([jnp.real(x) for x in leaves])
    imaginary = [jnp.imag(x) for x in leaves if jnp.iscomplexobj(x)]
    return lax.complex(found, sums.exact_total(imaginary).astype(found.dtype)) if imaginary else found


def max(tree: Any) -> Array:  # noqa: A001
    """Returns the largest entry of all leaves.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      A scalar in the dtype to which JAX promotes the leaves; -inf if there are no entries.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.max({"a": jnp.array([1, 16777217]), "b": jnp.zeros(0), "c": None}))
    16777217
    """
    return _extreme(tree, jnp.max, jnp.maximum, -math.inf)


def min(tree: Any) -> Array:  # noqa: A001
    """Returns the smallest entry of all leaves.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      A scalar in the dtype to which JAX promotes the leaves; inf if there are no entries.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.tree.min({"a": jnp.array([1.0, 2.0]), "b": -3.0}))
    -3.0
    """
    return _extreme(tree, jnp.min, jnp.minimum, math.inf)


def _extreme(tree: Any, of_leaf: Any, of_two: Any, of_none: float) -> Array:
    found = [of_leaf(jnp.asarray(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    found = [mesh.extreme(x, largest=of_none < 0) for x in found]
    return functools.reduce(of_two, found) if found else jnp.asarray(of_none)


@jax.jit
def finite(tree: Any) -> Array:
    """Whether every entry of every leaf is finite, that is, neither NaN nor infinite.

    Args:
      tree: A tree of arrays, such as parameters or gradients.

    Returns:
      A boolean scalar.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> bool(gx.tree.finite({"a": jnp.ones(2), "b": jnp.array([1.0, jnp.nan])}))
    False
    """
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    if any(map(mesh.summed_over, leaves)):
        return mesh.added([(jnp.sum(~jnp.isfinite(x), dtype=jnp.int32),) for x in leaves])[0] == 0
    return functools.reduce(jnp.logical_and, map(_finite, leaves), jnp.array(True))


def _finite(x: Array) -> Array:
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.array(True)
    if x.dtype.itemsize < 2:
        return jnp.all(jnp.isfinite(x))
    # x - x is 0 for finite x and NaN for all others: one sum, where a test of every entry would be kept as an array.
    return jnp.isfinite(jnp.sum(leaf.widen(x - x)))


def allclose(a: Any, b: Any, rtol: ArrayLike = 1e-5, atol: ArrayLike = 1e-8, equal_nan: bool = False) -> Array:
    """Whether two trees are equal within a tolerance: |a - b| <= atol + rtol |b|.

    Args:
      a: A tree of arrays.
      b: A tree of arrays with the same structure.
      rtol: Tolerance relative to |b|. 1e-5 by default.
      atol: Absolute tolerance. 1e-8 by default.
      equal_nan: Whether NaN counts as equal to NaN. False by default.

    Returns:
      A boolean scalar.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> bool(gx.tree.allclose({"a": jnp.ones(2)}, {"a": jnp.array([1.0, 1.000001])}))
    True

    Raises:
      ValueError: the trees differ in structure.
    """
    if jax.tree.structure(a) != jax.tree.structure(b):
        raise checks.tree_mismatch("allclose", "b", b, "a", a)

    def close(x: Any, y: Any) -> Array:
        x, y = leaf.widen(jnp.asarray(x)), leaf.widen(jnp.asarray(y))
        return jnp.allclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)

    return functools.reduce(jnp.logical_and, jax.tree.leaves(jax.tree.map(close, a, b)), jnp.array(True))


def _count(sums_of_leaves: list[Array]) -> Array:
    """Adds up one integer for each leaf, in the dtype to which JAX promotes the integers."""
    dtype = functools.reduce(jnp.promote_types, [x.dtype for x in sums_of_leaves])
    return mesh.added([(x.astype(dtype),) for x in sums_of_leaves])[0]


def _is_integer(x: Array) -> bool:
    return checks.kind(x.dtype) in ("integer", "bool")


def _long(x: Array) -> Array:
    """Casts an array of integers to JAX's default integer dtype, or keeps a wider one."""
    return x.astype(jnp.promote_types(x.dtype, jnp.result_type(int)))


def _floating(x: Array) -> Array:
    return x.astype(float) if _is_integer(x) else x
