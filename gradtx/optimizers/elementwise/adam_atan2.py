"""Adam-atan2: Adam with the arc tangent of the ratio in place of the ratio, and no eps.

    m_t, v_t as in Adam
    u_t = a * atan2(m_t / (1 - b1^t), b * sqrt(v_t / (1 - b2^t)))

Everett et al., 2024, "Scaling Exponents Across Parameterizations and Optimizers", section on
Adam-atan2. The update does not change when all gradients are scaled by one number, it lies within
a * pi / 2, and it is 0 where both moments are. The factors `a` and `b` are those of
github.com/lucidrains/adam-atan2-pytorch: a = 1.27 is 4 / pi, so that a steady gradient is answered
with 1, as by Adam. A complex entry keeps the angle of m_t: the arc tangent is taken of its modulus.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["adam_atan2", "scale_by_adam_atan2"]


@jax.custom_jvp
def _atan2(y: Array, x: Array) -> Array:
    """atan2(y, x) for x >= 0, whose derivative neither overflows nor, at (0, 0), exists: it is 0 there."""
    return jnp.arctan2(y, x)


@_atan2.defjvp
def _atan2_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (y, x), (dy, dx) = primals, tangents
    size = jnp.maximum(jnp.abs(y), jnp.abs(x))
    seen = size >= jnp.finfo(size.dtype).tiny
    size = jnp.where(seen, size, 1)
    y, x = y / size, x / size
    square = jnp.where(seen, y * y + x * x, 1)
    return jnp.arctan2(*primals), jnp.where(seen, (x * dy - y * dx) / square / size, 0)


class scale_by_adam_atan2(Elementwise, state=ScaleByAdamState, corrected=("b1", "b2")):
    """The rule of Adam-atan2, without the learning rate.

    `b1` (0.9) and `b2` (0.99) lie in [0, 1), `a` (1.27) and `b` (1) are not negative. The first moment
    is kept in `mu_dtype`, by default the parameter's dtype but at least float32; the second is real.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adam_atan2(a=1.0)
    >>> updates, state = tx.update(jnp.array([1e-9, -2.0, 0.0]), tx.init(jnp.zeros(3)))
    >>> print(updates.round(4))
    [ 0.7854 -0.7854  0.    ]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.99, ge=0, lt=1)
    a: Hyper = hyper(default=1.27, ge=0)
    b: Hyper = hyper(default=1.0, ge=0)
    mu_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        # The corrections meet in the second argument: the first moment itself may be the largest number.
        left, grow_nu = self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(left=left, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        square = nu * shared.grow_nu
        below = self.b * shared.left * jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), square)
        new = slots._replace(mu=mu, nu=nu)
        if not jnp.iscomplexobj(mu):
            return self.a * _atan2(mu, below), new
        size = jnp.abs(jnp.where(mu == 0, 1, mu))
        return mu / size * (self.a * _atan2(jnp.where(mu == 0, 0, size), below)), new


@constructor
def adam_atan2(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.99,
    a: HyperArg = 1.27,
    b: HyperArg = 1.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Adam-atan2, with decoupled weight decay on the leaves that `mask` selects (all by default).

    The defaults are those of adam-atan2-pytorch. With `decouple_lr` the decay is not scaled by the
    learning rate. State: two arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.adam_atan2(1e-4)
    chain(
      scale_by_adam_atan2(b1=0.9, b2=0.99, a=1.27, b=1.0),
      add_decayed_weights(weight_decay=0.0),
      scale_by_learning_rate(learning_rate=0.0001),
    )
    """
    return chain(
        scale_by_adam_atan2(b1, b2, a, b, mu_dtype),
        *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr),
    )
