"""Proximal operators of norms and related penalties: p = argmin |p - x|^2 / 2 + scaling g(p), with r = scaling * reg.

    prox_l1             g = reg sum |p_i|                p_i = x_i max(1 - r / |x_i|, 0), the soft threshold
    prox_l2_squared     g = reg |p|^2 / 2                p = x / (1 + r)
    prox_elastic_net    g = l1 sum |p_i| + l2 |p|^2 / 2  both, one after the other
    prox_l2             g = reg |p|                      p = x max(1 - r / |x|, 0), the whole tree as one vector
    prox_group_lasso    g = reg sum of |p_group|         the same for each group separately
    prox_log_barrier    g = -reg sum log p_i             p_i = (x_i + sqrt(x_i^2 + 4 r)) / 2

(Parikh and Boyd, 2014, "Proximal Algorithms"). With `non_negative=True` the minimum is taken over p >= 0, which is
the same operator applied to max(x, 0). Total variation and the nuclear norm have files of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf
from gradtx import tree as trees
from gradtx.projections.vector import check, each_like, narrowed, number, widened

__all__ = [
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_l1",
    "prox_l2",
    "prox_l2_squared",
    "prox_log_barrier",
]


def prox_l1(tree: Any, reg: Any = 1, scaling: ArrayLike = 1, *, non_negative: bool = False) -> Any:
    """Applies soft thresholding, the proximal operator of the l1 norm: shrinks each entry towards 0 by
    `scaling * reg`.

    Entries of a smaller modulus become exactly 0, so it gives sparse parameters (the lasso).

    Args:
      tree: The tree. Leaves may be complex; complex entries keep their angles.
      reg: Factor of the l1 norm: a number or a tree like `tree`. Not negative; 1 by default.
      scaling: Further factor of the penalty, usually the learning rate. Not negative; 1 by default.
      non_negative: Whether the result must also be nonnegative. False by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_l1(jnp.array([-3.0, 0.5, 2.0])), gx.prox_l1(jnp.array([-3.0, 2.0]), non_negative=True))
    [-2.  0.  1.] [0. 1.]

    Raises:
      TypeError: a leaf is not a floating-point array, or is complex with `non_negative`.
      ValueError: `reg` is not like the tree, or a number is negative.
    """
    return _separable("prox_l1", tree, {"reg": reg}, scaling, non_negative, lambda x, r: _shrunk(x, r))


def prox_l2_squared(tree: Any, reg: Any = 1, scaling: ArrayLike = 1, *, non_negative: bool = False) -> Any:
    """Applies the proximal operator of the ridge penalty: divides each entry by `1 + scaling * reg`.

    Args:
      tree: The tree. Leaves may be complex.
      reg: Factor of half the squared norm: a number or a tree like `tree`. Not negative; 1 by default.
      scaling: Further factor of the penalty, usually the learning rate. Not negative; 1 by default.
      non_negative: Whether the result must also be nonnegative. False by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_l2_squared(jnp.array([-3.0, 2.0])))
    [-1.5  1. ]

    Raises:
      TypeError: a leaf is not a floating-point array, or is complex with `non_negative`.
      ValueError: `reg` is not like the tree, or a number is negative.
    """
    return _separable("prox_l2_squared", tree, {"reg": reg}, scaling, non_negative, lambda x, r: x / (1 + r))


def prox_elastic_net(tree: Any, l1: Any = 1, l2: Any = 1, scaling: ArrayLike = 1, *, non_negative: bool = False) -> Any:
    """Applies the proximal operator of the elastic net: soft thresholding, followed by a division.

    Each entry shrinks towards 0 by `scaling * l1` and is then divided by `1 + scaling * l2`.

    Args:
      tree: The tree. Leaves may be complex.
      l1: Factor of the l1 norm: a number or a tree like `tree`. Not negative; 1 by default.
      l2: Factor of half the squared norm: a number or a tree like `tree`. Not negative; 1 by default.
      scaling: Further factor of both penalties, usually the learning rate. Not negative; 1 by default.
      non_negative: Whether the result must also be nonnegative. False by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_elastic_net(jnp.array([-3.0, 0.5, 2.0])))
    [-1.   0.   0.5]

    Raises:
      TypeError: a leaf is not a floating-point array, or is complex with `non_negative`.
      ValueError: `l1` or `l2` is not like the tree, or a number is negative.
    """
    regs = {"l1": l1, "l2": l2}
    return _separable("prox_elastic_net", tree, regs, scaling, non_negative, lambda x, r, s: _shrunk(x, r) / (1 + s))


def prox_l2(tree: Any, reg: ArrayLike = 1, scaling: ArrayLike = 1, *, non_negative: bool = False) -> Any:
    """Applies the proximal operator of the Euclidean norm: shortens the whole tree by `scaling * reg`.

    A tree whose norm is smaller becomes 0.

    Args:
      tree: The tree, treated as one vector. Leaves may be complex.
      reg: Factor of the norm, a number. Not negative; 1 by default.
      scaling: Further factor of the penalty, usually the learning rate. Not negative; 1 by default.
      non_negative: Whether the result must also be nonnegative. False by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_l2(jnp.array([3.0, 4.0])))
    [2.4 3.2]

    Raises:
      TypeError: a leaf is not a floating-point array, or is complex with `non_negative`.
      ValueError: a number is negative or not a scalar.
    """
    who = "prox_l2"
    leaves = _prepared(who, tree, non_negative)
    dtype = trees.number(tree, 0).dtype
    r = number(who, "reg", reg, dtype) * number(who, "scaling", scaling, dtype)
    return narrowed(_shortened(leaves, r), tree)


def prox_group_lasso(
    tree: Any,
    reg: ArrayLike = 1,
    scaling: ArrayLike = 1,
    *,
    axis: int | tuple[int, ...] | None = None,
    non_negative: bool = False,
) -> Any:
    """Applies the proximal operator of the group lasso: shortens each group of entries by `scaling * reg`.

    Groups whose norm is smaller become exactly 0, so it removes whole groups, such as the weights of one unit.

    Args:
      tree: The tree. Leaves may be complex.
      reg: Factor of the sum of the groups' norms, a number. Not negative; 1 by default.
      scaling: Further factor of the penalty, usually the learning rate. Not negative; 1 by default.
      axis: The axes of a group, an integer or a tuple. `axis=0` makes every column of a matrix a group. None
        (default) makes every leaf a group.
      non_negative: Whether the result must also be nonnegative. False by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_group_lasso({"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.5])})["b"])
    [0.]
    >>> print(gx.prox_group_lasso(jnp.array([[3.0, 0.0], [4.0, 0.5]]), axis=0))
    [[2.4 0. ]
     [3.2 0. ]]

    Raises:
      TypeError: a leaf is not a floating-point array, or is complex with `non_negative`.
      ValueError: a number is negative or not a scalar, or a leaf does not have these axes.
    """
    who = "prox_group_lasso"
    leaves = _prepared(who, tree, non_negative)
    axes = None if axis is None else ((axis,) if isinstance(axis, int) else tuple(axis))
    for (path, _), x in zip(jax.tree_util.tree_leaves_with_path(tree), leaves, strict=True):
        if any(not -x.ndim <= i < x.ndim for i in axes or ()):
            raise ValueError(
                f"{who}: axis is {axis}, and the shape at {checks.keystr(path)} is {x.shape}. Give axes that every "
                "leaf has, or None for leaves as groups."
            )
    dtypes = [leaf.compute_dtype(x.dtype) for x in leaves]
    regs = [number(who, "reg", reg, dtype) * number(who, "scaling", scaling, dtype) for dtype in dtypes]
    return narrowed([_groups(x, r, axes) for x, r in zip(leaves, regs, strict=True)], tree)


def prox_log_barrier(tree: Any, reg: Any = 1, scaling: ArrayLike = 1) -> Any:
    """Applies the proximal operator of the logarithmic barrier: makes each entry positive.

    The result is the p > 0 for which p - scaling * reg / p = x.

    Args:
      tree: The tree. Leaves must be real.
      reg: Factor of the barrier -sum(log(p)): a number or a tree like `tree`. Not negative; 1 by default.
      scaling: Further factor of the barrier, usually the learning rate. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_log_barrier(jnp.array([-1.5, 0.0, 1.5])))
    [0.5 1.  2. ]

    Raises:
      TypeError: a leaf is complex or not a floating-point array.
      ValueError: `reg` is not like the tree, or a number is negative.
    """
    return _separable("prox_log_barrier", tree, {"reg": reg}, scaling, False, _barrier, real=True)


def _prepared(who: str, tree: Any, non_negative: bool, real: bool = False) -> list[Array]:
    """Returns the leaves in float32 or wider, without negative entries if that is asked for."""
    leaves = [widened(x) for x in check(who, tree, real=real or non_negative)]
    return [jnp.where(x <= 0, 0, x) for x in leaves] if non_negative else leaves


def _separable(
    who: str,
    tree: Any,
    regs: dict[str, Any],
    scaling: ArrayLike,
    non_negative: bool,
    fn: Callable[..., Array],
    real: bool = False,
) -> Any:
    """Applies `fn(x, *regs)` to each leaf, with the numbers times `scaling`, in the leaf's real dtype."""
    leaves = _prepared(who, tree, non_negative, real)
    for name, reg in regs.items():
        if leaf.is_number(reg):
            number(who, name, reg, jnp.float32)
    each = zip(*(each_like(who, name, reg, tree) for name, reg in regs.items()), strict=True)
    new: list[Array] = []
    for x, items in zip(leaves, each, strict=True):
        dtype = leaf.compute_dtype(x.dtype)
        factor = number(who, "scaling", scaling, dtype)
        new.append(fn(x, *(jnp.asarray(item).astype(dtype) * factor for item in items)))
    return narrowed(new, tree)


def _shrunk(x: Array, r: Array) -> Array:
    if not jnp.iscomplexobj(x):
        return jnp.where(x > r, x - r, jnp.where(x < -r, x + r, jnp.where(jnp.isnan(x), x, 0)))
    size = jnp.abs(jnp.where(x == 0, 1, x))
    return jnp.where((x == 0) | (size <= r), 0, x * (1 - r / size))


@jax.jit
def _shortened(leaves: list[Array], r: Array) -> list[Array]:
    """Shortens the leaves, treated as one vector, by r."""
    unit, norm = trees.scaled(leaves)
    short = norm <= r / unit
    factor = jnp.where(short, 0, 1 - r / unit / jnp.where(short, 1, norm))
    return [x * factor.astype(x.dtype) for x in leaves]


def _groups(x: Array, r: Array, axes: tuple[int, ...] | None) -> Array:
    if axes is None:
        return _shortened([x], r)[0]
    axes = tuple(sorted(i % x.ndim for i in axes))
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    moved = x.transpose(*rest, *axes)
    groups = moved.reshape(-1, math.prod(moved.shape[len(rest) :]))
    new = jax.vmap(lambda group: _shortened([group], r)[0])(groups) if groups.size else groups
    order = [(*rest, *axes).index(i) for i in range(x.ndim)]
    return new.reshape(moved.shape).transpose(order)


def _barrier(x: Array, r: Array) -> Array:
    """Returns (x + h) / 2 with h = sqrt(x^2 + 4 r), computed as 2 r / (h - x) for x < 0."""
    root = 2 * jnp.sqrt(jnp.where(r > 0, r, 1))
    large = jnp.maximum(jnp.abs(x), root)
    hypotenuse = large * jnp.sqrt((x / large) ** 2 + (root / large) ** 2)
    below = x < 0
    divisor = jnp.where(below, hypotenuse - x, 1)
    inner = jnp.where(below, 2 * r / divisor, x / 2 + hypotenuse / 2)
    return jnp.where(r > 0, inner, jnp.where(x <= 0, 0, x))
