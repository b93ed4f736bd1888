"""Steps on a manifold: project the update onto the tangent space, add it, and return to the manifold.

    sphere    |x| = scale                v = u - x <x, u> / scale^2              x <- scale (x + v) / |x + v|
    stiefel   X^T X = scale^2 I          V = U - X (X^T U + U^T X) / 2 scale^2   X <- scale Q,  Q from X + V

Q is either the polar factor, which is the nearest matrix with orthonormal columns, or the factor of the QR
decomposition whose R has no negative diagonal entry (Absil, Mahony and Sepulchre, 2008, "Optimization Algorithms on
Matrix Manifolds").
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from gradtx import mesh
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.mask import applies_to
from gradtx.core.value import choice, static
from gradtx.projections.matrices import projection_stiefel
from gradtx.transforms.project import check_axis
from gradtx.types import Mask, Slots

__all__ = ["riemannian"]


class riemannian(Layerwise, needs=("params",), real=True):
    """Keeps the parameters on a manifold: the sphere, or matrices with orthonormal columns.

    Put it last in a chain: `chain(sgd(0.1), riemannian())`. The update is projected onto the tangent space at the
    parameters and added, and the sum is retracted onto the manifold. The parameters should start on the manifold; from
    elsewhere the first step leads onto it. A point at the center of the sphere moves in the direction of the update, or
    to the point with equal entries if the update is zero.

        v = u - p <p, u> / scale^2,     p <- scale * (p + v) / |p + v|      on the sphere

    Args:
      manifold: 'sphere' (default) for vectors of length `scale`; 'stiefel' for matrices with orthogonal columns of
        length `scale`, or orthogonal rows if there are more columns than rows.
      scale: Radius of the sphere, or length of the columns of a Stiefel matrix (default 1). Positive.
      retraction: How to return to 'stiefel': 'polar' (default) for the nearest point, or 'qr', which is cheaper.
      axis: For the sphere: None (default) to take each leaf as one point; an integer to take every vector along that
        axis as a point of its own. For 'stiefel' it is not used: leaves with more than two axes are stacks of matrices,
        and vectors are matrices with one column.
      mask: Which parameters to keep on the manifold: a selector such as `gx.select.path("**/kernel")`, a tree of
        booleans, or a function of the parameters. All by default.

    Returns:
      A transformation whose `update` needs `params`. It keeps no state except a step count.

    References:
      Absil, Mahony and Sepulchre, 2008, "Optimization Algorithms on Matrix Manifolds".

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.sgd(0.75), gx.riemannian(scale=5.0))
      >>> x = jnp.array([0.0, 5.0])
      >>> updates, _ = tx.update(jnp.array([-5.0, 3.0]), tx.init(x), x)
      >>> print((x + updates).round())
      [3. 4.]

    Raises:
      TypeError: A parameter is complex.
    """

    manifold: str = choice(default="sphere", options=("sphere", "stiefel"))
    scale: Hyper = hyper(default=1.0, gt=0, kw_only=True)
    retraction: str = choice(default="polar", options=("polar", "qr"), kw_only=True)
    axis: int | None = static(default=None, check=check_axis, kw_only=True)
    mask: Mask = applies_to(kw_only=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        if not g.size:
            return g, slots
        # Everything in units of the scale, or of the update if it is larger: only the direction of the sum counts.
        unit = lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(g)), self.scale))
        x, u = p / unit, g / unit
        new = self._on_sphere(x, u) if self.manifold == "sphere" else self._on_stiefel(x, u, self._orthonormal(p))
        return self.scale * new - p, slots

    def _on_sphere(self, x: Array, u: Array) -> Array:
        axis = None if self.axis is None or x.ndim < 2 else self.axis
        unit = _normalized(x, axis, 0.0)
        along = x + (u - unit * jnp.sum(unit * u, axis=axis, keepdims=True))
        count = x.size if axis is None else x.shape[axis]
        return _normalized(along, axis, count**-0.5)

    def _orthonormal(self, p: Array) -> Array:
        """Returns `p` divided by its scale, or by its largest entry if it is far from the manifold."""
        size = jnp.max(jnp.abs(p))
        return p / jnp.where(size > 2 * self.scale, size, self.scale)

    def _on_stiefel(self, x: Array, u: Array, q: Array) -> Array:
        """Takes the step on the Stiefel manifold; `q` is `x` with columns of length 1."""
        shape, where = x.shape, mesh.place(x)
        x, u, q = map(mesh.whole, (x, u, q))
        x, u, q = (y.reshape(-1, 1) if y.ndim < 2 else y for y in (x, u, q))
        wide = x.shape[-2] < x.shape[-1]
        x, u, q = (jnp.matrix_transpose(y) if wide else y for y in (x, u, q))
        cross = jnp.matrix_transpose(q) @ u
        along = x + (u - q @ (cross + jnp.matrix_transpose(cross)) / 2)
        new = projection_stiefel(along) if self.retraction == "polar" else _orthogonal_factor(along)
        return mesh.put((jnp.matrix_transpose(new) if wide else new).reshape(shape), where)


def _normalized(x: Array, axis: int | None, otherwise: float) -> Array:
    """Returns vectors of length 1; a vector of zeros becomes `otherwise` in every entry."""
    top = lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True))
    zero = top == 0
    y = jnp.where(zero, 1, x) / jnp.where(zero, 1, top)
    return jnp.where(zero, otherwise, y / jnp.sqrt(jnp.sum(y * y, axis=axis, keepdims=True)))


def _orthogonal_factor(x: Array) -> Array:
    """Returns Q of the QR decomposition whose R has no negative diagonal entry."""
    q, r = jnp.linalg.qr(x)
    diagonal = jnp.diagonal(r, axis1=-2, axis2=-1)
    return q * jnp.where(diagonal < 0, -1, 1)[..., None, :]
