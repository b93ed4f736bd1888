"""SM3: a variant of AdaGrad that stores one accumulator for each row and column instead of one for each entry.

    a_t = b2 * min over axes i of v_(t-1,i) + c * |g_t|^2,   c = 1 - b2, or c = 1 if b2 = 1
    v_(t,i) = max of a_t over all axes except i
    u_t = b1 * u_(t-1) + (1 - b1) * g_t / sqrt(a_t + eps),   and g_t / sqrt(a_t + eps) = 0 if a_t is 0

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
    """The state of `scale_by_sm3`.

    `mu`: for each leaf, the accumulators of all its axes. `nu`: the momentum. `count`: the number of steps taken.
    """

    mu: Array = reduced(over="all_but_one", real=True, signed=False)
    nu: Array = per_param()
    count: Array = counter()


class scale_by_sm3(Layerwise, state=ScaleBySM3State):
    """Divides the gradient by the square root of accumulators of its rows and columns, then averages the results.

    This is `sm3` without the learning rate:

        a  = |g|^2 + min(accumulator of the row, accumulator of the column)
        u <- b1 * u + (1 - b1) * g / sqrt(a + eps)
        accumulator of each row <- max of a over the row,    accumulator of each column <- max of a over the column

    A leaf with more than two axes has one set of accumulators for each axis; a vector or a scalar has one accumulator
    for each entry.

    Args:
      b1: Decay rate of the momentum (the moving average of the divided gradient); a value closer to 1 averages over
        more steps. In [0, 1]; default 0.9.
      b2: Decay rate of the accumulators; with 1 squared gradients are added up without decay, as in the paper. In
        [0, 1]; default 1.
      eps: Added to the accumulator under the square root, for numerical stability. Not negative; default 1e-8.

    State: one array per parameter (4 bytes per entry in float32), and one number per row, per column, and per index of
      every further axis.

    Reference: Anil et al., 2019, "Memory-Efficient Adaptive Optimization", algorithm SM3-II.

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
        """Returns, for each axis, all other axes."""
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
    """Returns the largest of non-negative entries over `axes`, and 0 if there are no entries.

    The derivative is the derivative of the first largest entry. The derivative of `jnp.max` divides by the number of
    entries that equal the maximum, and this number is zero if the compiler recomputes the entries and rounds them
    differently.
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
    """Runs SM3, a variant of AdaGrad that needs very little memory for its accumulators, with momentum.

    Use it in place of AdaGrad when there is no memory for AdaGrad's sums, as for large embeddings (Anil et al., 2019,
    "Memory-Efficient Adaptive Optimization", algorithm SM3-II):

        a  = |g|^2 + min(accumulator of the row, accumulator of the column)
        p <- p - learning_rate * (moving average of g / sqrt(a + 1e-8))

    After the step, each accumulator is set to the largest a of its row or column.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). It is usually larger than for
        Adam, such as 0.1. Not negative.
      momentum: Decay rate of the momentum, the moving average of the divided gradient; a value closer to 1 averages
        over more steps. In [0, 1]; default 0.9.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32), and one number per row, per
      column, and per index of every further axis.

    >>> import gradtx as gx
    >>> gx.sm3(0.1)
    chain(scale_by_sm3(b1=0.9, b2=1.0, eps=1e-08), scale_by_learning_rate(learning_rate=0.1))
    """
    b1 = scale_by_sm3.check_field("b1", momentum, who="sm3", name="momentum")
    return chain(scale_by_sm3(b1), scale_by_learning_rate(learning_rate))
