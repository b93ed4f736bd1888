"""SM3: AdaGrad that remembers one accumulator for each row, column, ... in place of one for each entry.

    a_t = b2 * min over axes i of v_(t-1,i) + c * |g_t|^2,   c = 1 - b2, or 1 for b2 = 1
    v_(t,i) = max of a_t over all axes but i
    u_t = b1 * u_(t-1) + (1 - b1) * g_t / sqrt(a_t + eps),   0 where a_t is 0

Anil et al., 2019, "Memory-Efficient Adaptive Optimization", algorithm SM3-II.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.slots import counter, per_param, reduced
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleBySM3State", "scale_by_sm3", "sm3"]


class ScaleBySM3State(NamedTuple):
    """The steps taken, for each leaf the accumulators of its axes, and the momentum."""

    mu: Array = reduced(over="all_but_one", real=True, signed=False)
    nu: Array = per_param()
    count: Array = counter()


class scale_by_sm3(Layerwise, state=ScaleBySM3State):
    """The rule of SM3, without the learning rate.

    `b1` and `b2` lie in [0, 1], `eps` is not negative. A vector or a scalar has one accumulator for each entry.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_sm3(b1=0.0)
    >>> _, state = tx.update(jnp.array([[3.0, 0.0], [0.0, 1.0]]), tx.init(jnp.zeros((2, 2))))
    >>> print(*state.mu)
    [9. 1.] [9. 1.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, le=1)
    b2: Hyper = hyper(default=1.0, ge=0, le=1)
    eps: Hyper = hyper(default=1e-8, ge=0)

    def all_but_one(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """For each axis the others."""
        axes = range(len(shape))
        return [tuple(j for j in axes if j != i) for i in axes] or [()]

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        others = self.all_but_one(g.shape)
        new = jnp.where(jnp.asarray(self.b2) == 1, 1, 1 - self.b2)
        along = [jnp.expand_dims(v, axes) for v, axes in zip(slots.mu, others, strict=True)]
        a = leaf.finite_sum(functools.reduce(jnp.minimum, along) * self.b2, leaf.abs_sq(g) * new)
        nu = leaf.moment(slots.nu, g / leaf.root(a, self.eps), self.b1)
        return nu, slots._replace(mu=[_largest(a, axes) if axes else a for axes in others], nu=nu)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _largest(x: Array, axes: tuple[int, ...]) -> Array:
    """The largest of some non-negative entries over `axes`; 0 of none.

    Its derivative is that of the first of them. JAX's own divides by how many entries equal the largest, which are none
    where a compiler computes the entries anew and rounds them otherwise.
    """
    return lax.reduce(x, np.zeros((), x.dtype), lax.max, axes)


@_largest.defjvp
def _largest_jvp(axes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    value = _largest(x, axes)
    if x.size == 0:
        return value, jnp.zeros_like(value)
    x, dx = (jnp.moveaxis(a, axes, range(len(axes))).reshape(-1, *value.shape) for a in (x, dx))
    return value, jnp.take_along_axis(dx, jnp.argmax(x, axis=0, keepdims=True), axis=0)[0]


@constructor
def sm3(learning_rate: HyperArg, momentum: HyperArg = 0.9) -> chain:
    """SM3; `momentum` lies in [0, 1]. State: one array per parameter, and one for each axis of each.

    >>> import gradtx as gx
    >>> gx.sm3(0.1)
    chain(scale_by_sm3(b1=0.9, b2=1.0, eps=1e-08), scale_by_learning_rate(learning_rate=0.1))
    """
    b1 = scale_by_sm3.check_field("b1", momentum, who="sm3", name="momentum")
    return chain(scale_by_sm3(b1), scale_by_learning_rate(learning_rate))
