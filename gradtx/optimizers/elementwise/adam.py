"""Adam: the gradient's average divided by the root of its square's average.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    u_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization", algorithm 1. With `nesterov` the
corrected average is NAdam's, b1 * m_t / (1 - b1^(t+1)) + (1 - b1) * g_t / (1 - b1^t) (Dozat, 2016,
"Incorporating Nesterov Momentum into Adam", algorithm 2, without its extra factor b2 on v).

Where a decay is a schedule, the product of its numbers at all steps so far takes the place of the power t. The same
holds for every method that corrects an average for its start at zero.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import dtype, flag
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import OptionalDType, Slots

__all__ = ["ScaleByAdamState", "adam", "scale_by_adam"]


class ScaleByAdamState(NamedTuple):
    """The steps taken, and the first and second moment before their corrections.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_adam(Elementwise, state=ScaleByAdamState, corrected=("b1", "b2")):
    """The rule of Adam, without the learning rate.

    `b1` and `b2` lie in [0, 1), `eps` and `eps_root` are not negative. The first moment is kept in
    `mu_dtype`, by default the parameter's dtype but at least float32; the second is real.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adam()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(4))
    [ 1. -1.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    nesterov: bool = flag(default=False, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections = self.debias("b1", t, numbers, self.nesterov)
        return Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        root = leaf.root(nu * shared.grow_nu, self.eps_root) + self.eps
        return leaf.debiased_ratio(mu, g, root, shared.corrections), slots._replace(mu=mu, nu=nu)

    def largest(self, incoming: float, most: float) -> float:
        """By Cauchy and Schwarz |mu| <= c sqrt(nu) if b1^2 < b2, but for squares that were bounded at most / 4."""
        b1, b2, rest = self.b1, self.b2, (self.eps, self.eps_root)
        if not (all(map(leaf.is_number, (b1, b2, *rest))) and b1**2 < b2):
            return math.inf
        ratio = (1 - b1) / math.sqrt((1 - b2) * (1 - b1**2 / b2)) / (1 - b1)
        return (ratio + 1 / math.sqrt(1 - b2)) * 2 * math.sqrt(most)


@constructor
def adam(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: OptionalDType = None,
    *,
    nesterov: bool = False,
) -> chain:
    """Adam. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> gx.adam(1e-3)
    chain(scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0), scale_by_learning_rate(learning_rate=0.001))
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
