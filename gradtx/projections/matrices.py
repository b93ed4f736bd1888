"""Projections of matrices, by eigenvalues and singular values.

    projection_psd_cone        X = Q diag(w) Q^H      p = Q diag(max(w, 0)) Q^H
    projection_spectral_ball   X = U diag(s) V^H      p = U diag(min(s, scale)) V^H
    projection_nuclear_ball                           p = U diag(max(s - t, 0)) V^H,  sum max(s - t, 0) = scale
    projection_stiefel                                p = U V^H, the polar factor
    prox_nuclear_norm                                 p = U diag(max(s - reg, 0)) V^H

A leaf is a stack of matrices in its last two axes; each is projected separately. Leaves may be complex.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from gradtx import checks, leaf, mesh
from gradtx.linalg.spectral import Quotients, adjoint, differences, positive_part, singular_map, sums
from gradtx.projections.simplex import on_simplex
from gradtx.projections.vector import check, narrowed, number, unit, widened

__all__ = [
    "projection_nuclear_ball",
    "projection_psd_cone",
    "projection_spectral_ball",
    "projection_stiefel",
    "prox_nuclear_norm",
]


def projection_psd_cone(tree: Any) -> Any:
    """Projects matrices onto the positive semidefinite cone: symmetric (or Hermitian) without negative eigenvalues.

    Use it to keep covariance or kernel matrices valid.

    Args:
      tree: The tree to project. Each leaf is a square matrix or a stack of them in its last two axes; it may be
        complex.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_psd_cone(jnp.array([[2.0, 0.0], [0.0, -1.0]])))
    [[2. 0.]
     [0. 0.]]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: a leaf has fewer than two axes, or its matrices are not square.
    """
    return _each("projection_psd_cone", tree, _psd, square=True)


def projection_spectral_ball(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects matrices onto the spectral ball: caps their singular values at `scale`.

    Use it to bound the Lipschitz constant of a layer.

    Args:
      tree: The tree to project. Each leaf is a matrix or a stack of them in its last two axes; it may be complex.
      scale: The largest singular value. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_spectral_ball(jnp.diag(jnp.array([3.0, 0.5]))))
    [[1.  0. ]
     [0.  0.5]]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: a leaf has fewer than two axes, or `scale` is negative or not a scalar.
    """
    return _each("projection_spectral_ball", tree, lambda x, r: _scaled(_capped, x, r), ("scale", scale))


def projection_nuclear_ball(tree: Any, scale: ArrayLike = 1) -> Any:
    """Projects matrices onto the nuclear-norm ball: singular values that sum to at most `scale`. Many become 0.

    Use it for matrices of low rank.

    Args:
      tree: The tree to project. Each leaf is a matrix or a stack of them in its last two axes; it may be complex.
      scale: The largest sum of the singular values of a matrix. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_nuclear_ball(jnp.diag(jnp.array([1.5, 1.0]))))
    [[0.75 0.  ]
     [0.   0.25]]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: a leaf has fewer than two axes, or `scale` is negative or not a scalar.
    """
    return _each("projection_nuclear_ball", tree, lambda x, r: _scaled(_in_l1_ball, x, r), ("scale", scale))


def projection_stiefel(tree: Any) -> Any:
    """Projects matrices onto the Stiefel manifold: orthonormal columns, or orthonormal rows if there are fewer rows.

    Args:
      tree: The tree to project. Each leaf is a matrix or a stack of them in its last two axes; it may be complex. A
        matrix without full rank has several nearest points, of which one is returned.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.projection_stiefel(jnp.diag(jnp.array([3.0, 0.5]))))
    [[1. 0.]
     [0. 1.]]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: a leaf has fewer than two axes.
    """
    return _each("projection_stiefel", tree, _orthogonal)


def prox_nuclear_norm(tree: Any, reg: ArrayLike = 1, scaling: ArrayLike = 1) -> Any:
    """Applies the proximal operator of the nuclear norm: shrinks each singular value by `scaling * reg`.

    Args:
      tree: The tree. Each leaf is a matrix or a stack of them in its last two axes; it may be complex.
      reg: Factor of the nuclear norm. Not negative; 1 by default.
      scaling: Further factor of the penalty, usually the learning rate. Not negative; 1 by default.

    Returns:
      A tree like `tree`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> print(gx.prox_nuclear_norm(jnp.diag(jnp.array([1.5, 0.5]))))
    [[0.5 0. ]
     [0.  0. ]]

    Raises:
      TypeError: a leaf is not a floating-point array.
      ValueError: a leaf has fewer than two axes, or a number is negative or not a scalar.
    """
    numbers = (("reg", reg), ("scaling", scaling))
    return _each("prox_nuclear_norm", tree, lambda x, reg, scaling: _scaled(_soft, x, reg * scaling), *numbers)


def _each(who: str, tree: Any, fn: Callable[..., Array], *numbers: tuple[str, ArrayLike], square: bool = False) -> Any:
    """Applies `fn(matrices, *numbers)` to every leaf that is not empty."""
    leaves = check(who, tree, real=False)
    for (path, x), shape in zip(jax.tree_util.tree_leaves_with_path(tree), map(np.shape, leaves), strict=True):
        if len(shape) < 2 or (square and shape[-1] != shape[-2]):
            kind = "square matrices" if square else "matrices"
            raise ValueError(
                f"{who}: at {checks.keystr(path)} the shape is {np.shape(x)}, but the last two axes must hold {kind}. "
                "Project only the leaves that are matrices."
            )
    wide = [mesh.whole(widened(x), (-2, -1)) for x in leaves]
    scalars = [[number(who, *pair, leaf.compute_dtype(x.dtype)) for pair in numbers] for x in wide]
    return narrowed([fn(x, *scalar) if x.size else x for x, scalar in zip(wide, scalars, strict=True)], tree)


def _unit(x: Array) -> Array:
    return unit(x, axis=(-2, -1))


@jax.jit
def _orthogonal(x: Array) -> Array:
    return singular_map(_polar, x / _unit(x), jnp.zeros(()))


@jax.jit
def _psd(x: Array) -> Array:
    size = _unit(x)
    x = x / size
    return positive_part(x / 2 + adjoint(x) / 2) * size


@partial(jax.jit, static_argnums=0)
def _scaled(rule: Any, x: Array, level: Array) -> Array:
    """Applies the function with level `level` to matrices that may have entries near the largest number."""
    size = jnp.maximum(_unit(x), 1)
    return singular_map(rule, x / size, level / size[..., 0]) * size


def _soft(s: Array, level: Array) -> tuple[Array, Callable[[], Quotients]]:
    values = jnp.maximum(s - level, 0)

    def quotients() -> Quotients:
        plus = sums(values, s, (level <= 0)[..., None])
        return Quotients(differences(s - level), plus, lambda ds, dlevel: jnp.where(s > level, -dlevel, 0))

    return values, quotients


def _capped(s: Array, level: Array) -> tuple[Array, Callable[[], Quotients]]:
    values = jnp.minimum(s, level)

    def quotients() -> Quotients:
        plus = sums(values, s, (level > 0)[..., None])
        return Quotients(1 - differences(s - level), plus, lambda ds, dlevel: jnp.where(s > level, dlevel, 0))

    return values, quotients


def _in_l1_ball(s: Array, level: Array) -> tuple[Array, Callable[[], Quotients]]:
    """Applies soft thresholding, by the amount that makes the sum at most `level`."""
    inside = jnp.sum(s, axis=-1, keepdims=True) <= level
    shrunk = jnp.vectorize(on_simplex, signature="(n),()->(n)")(s, level[..., 0])
    values = jnp.where(inside, s, shrunk)
    threshold = jnp.max(s - values, axis=-1, keepdims=True)

    def quotients() -> Quotients:
        soft = _soft(s, threshold)[1]()
        above = (s > threshold) & ~inside
        count = jnp.maximum(jnp.sum(above, axis=-1, keepdims=True), 1)

        def shift(ds: Array, dlevel: Array) -> Array:
            total = jnp.sum(jnp.where(above, ds, 0), axis=-1, keepdims=True)
            return jnp.where(above, (dlevel - total) / count.astype(ds.dtype), 0)

        return Quotients(soft.minus, soft.plus, shift)

    return values, quotients


def _polar(s: Array, level: Array) -> tuple[Array, Callable[[], Quotients]]:
    values = jnp.ones_like(s)

    def quotients() -> Quotients:
        least = s.shape[-1] * jnp.finfo(s.dtype).eps * jnp.max(s, axis=-1)[..., None, None]
        plus = sums(values, s, 0.0, least)
        return Quotients(jnp.zeros_like(plus), plus, lambda ds, dlevel: jnp.zeros_like(s))

    return values, quotients
