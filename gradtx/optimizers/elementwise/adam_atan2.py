"""Adam-atan2: replaces the ratio in Adam's update by the arc tangent of the ratio, and needs no eps.

    m_t, v_t as in Adam
    u_t = a * atan2(m_t / (1 - b1^t), b * sqrt(v_t / (1 - b2^t)))

Everett et al., 2024, "Scaling Exponents Across Parameterizations and Optimizers", section on Adam-atan2. The update
does not change if all gradients are multiplied by the same number. Each entry is at most a * pi / 2 in absolute value,
and 0 if both moments are 0. The factors `a` and `b` come from github.com/lucidrains/adam-atan2-pytorch: a = 1.27 is
about 4 / pi, so a constant gradient gives an update of 1, as with Adam. For a complex entry, the arc tangent is
computed from the modulus of m_t, and the update has the angle of m_t.
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
    """Returns atan2(y, x) for x >= 0. The derivative does not overflow, and at (0, 0) it is set to 0."""
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
    """Replaces Adam's division by an arc tangent, which needs no eps.

    This is `adam_atan2` without learning rate and weight decay:

        u = a * atan2(m_hat, b * sqrt(v_hat)),    m, v: Adam's moments

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.99 (about the last 100 steps).
      a: Factor of the update; with 1.27 (about 4 / pi) a constant gradient gives an update of 1, as with Adam. Not
        negative; default 1.27.
      b: Factor of the second moment's square root inside the arc tangent; a larger factor gives smaller updates if
        gradients are noisy. Not negative; default 1.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    State: two arrays per parameter (8 bytes per entry in float32; the second moment of a complex parameter is real).

    Reference: Everett et al., 2024, "Scaling Exponents Across Parameterizations and Optimizers".

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
        # Both bias corrections are applied to the second argument, because dividing the first moment could overflow.
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
    """Runs Adam-atan2, a variant of Adam without eps, with decoupled weight decay.

    Use it when gradients are so small, or differ so much in scale, that Adam's eps matters: the update does not change
    if all gradients are multiplied by the same number, and each entry is at most a * pi / 2 in absolute value. With
    Adam's moments m and v (Everett et al., 2024, "Scaling Exponents Across Parameterizations and Optimizers"):

        p <- p - learning_rate * (a * atan2(m_hat, b * sqrt(v_hat)) + weight_decay * p)

    The defaults are taken from adam-atan2-pytorch.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.99 (about the last 100 steps).
      a: Factor of the update; with 1.27 (about 4 / pi) a constant gradient gives an update of 1, as with Adam. Not
        negative; default 1.27.
      b: Factor of the second moment's square root inside the arc tangent; a larger factor gives smaller updates if
        gradients are noisy. Not negative; default 1.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

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
