"""Yogi: Adam with a second moment that moves towards the square by steps of bounded relative size.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = v_(t-1) - (1 - b2) * sign(v_(t-1) - |g_t|^2) * |g_t|^2,   not below nu_floor
    u_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Zaheer, Reddi, Sachan, Kale and Kumar, 2018, "Adaptive Methods for Nonconvex Optimization", algorithm
2, with Adam's corrections; both moments start at `initial_accumulator_value`, as optax has them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleByYogiState", "scale_by_yogi", "yogi"]


class ScaleByYogiState(NamedTuple):
    """The steps taken, and the first and second moment before their corrections.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    mu: Array = per_param(start="first_mu")
    nu: Array = per_param(start="initial_accumulator_value", real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_yogi(Elementwise, state=ScaleByYogiState, corrected=("b1", "b2")):
    """The rule of Yogi, without the learning rate.

    `b1` and `b2` lie in [0, 1); `eps`, `eps_root`, `initial_accumulator_value` and `nu_floor` are not
    negative. The floor holds for the stored second moment, before its correction. The first moment of
    a complex parameter starts at zero.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_yogi(nu_floor=0.01)
    >>> updates, state = tx.update(jnp.array([0.1]), tx.init(jnp.zeros(1)))
    >>> print(state.nu)
    [0.01]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-3, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    initial_accumulator_value: Hyper = hyper(default=1e-6, ge=0)
    nu_floor: Hyper = hyper(default=0.0, ge=0, kw_only=True)

    def first_mu(self, p: Array) -> Any:
        return 0.0 if jnp.iscomplexobj(p) else self.initial_accumulator_value  # no direction is preferred

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        left, grow_nu = self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(left=left, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        square = leaf.abs_sq(g)
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = slots.nu - leaf.sign(slots.nu - square) * ((1 - self.b2) * square)
        if not leaf.is_number(self.nu_floor) or self.nu_floor > 0:
            nu = leaf.at_least(nu, self.nu_floor)
        root = leaf.root(nu * shared.grow_nu, self.eps_root) + self.eps
        return mu / (root * shared.left), slots._replace(mu=mu, nu=nu)


@constructor
def yogi(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-3,
    *,
    eps_root: HyperArg = 0.0,
    initial_accumulator_value: HyperArg = 1e-6,
    nu_floor: HyperArg = 0.0,
) -> chain:
    """Yogi. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> print(gx.yogi(0.01))
    chain(
      scale_by_yogi(b1=0.9, b2=0.999, eps=0.001, eps_root=0.0, initial_accumulator_value=1e-06, nu_floor=0.0),
      scale_by_learning_rate(learning_rate=0.01),
    )
    """
    return chain(
        scale_by_yogi(b1, b2, eps, eps_root, initial_accumulator_value, nu_floor=nu_floor),
        scale_by_learning_rate(learning_rate),
    )
