"""NAdam: Adam with Nesterov momentum, and the same with decoupled weight decay.

    u_t = (mu_(t+1) * m_t / (1 - P_(t+1)) + (1 - mu_t) * g_t / (1 - P_t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

    mu_t = b1 * (1 - 0.96^(t * momentum_decay) / 2),   P_t = mu_1 * ... * mu_t

with m_t and v_t as in Adam. Dozat, 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2 without its
extra factor b2 on v, and with its schedule of mu, where momentum_decay is 1/250: this is PyTorch's NAdam. optax's
has the constant mu_t = b1, for which P_t = b1^t: that rule is `gradtx.scale_by_adam(nesterov=True)`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param, per_tree
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import adam, scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask

__all__ = ["ScaleByNadamState", "nadam", "nadamw", "scale_by_nadam"]


class ScaleByNadamState(NamedTuple):
    """The steps taken, the first and second moment before their corrections, and the product of the momenta.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    mu_product: Array = per_tree(start=1.0, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_nadam(Elementwise, state=ScaleByNadamState, corrected=("b2",)):
    """The rule of NAdam with the momentum growing from b1 / 2 to b1, without the learning rate.

    `b1` and `b2` lie in [0, 1), `eps`, `eps_root` and `momentum_decay` are not negative. The first moment is kept
    in `mu_dtype`, by default the parameter's dtype but at least float32; the second is real.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_nadam()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(4), f"{state.mu_product:.4f}")
    [ 1.0565 -1.0565] 0.4501
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    momentum_decay: Hyper = hyper(default=4e-3, ge=0, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        steps = jnp.asarray(t, numbers.mu_product.dtype)
        product = numbers.mu_product * self._momentum(steps)
        ahead = self._momentum(steps + 1)
        now = (1 - self._momentum(steps)) / (1 - product)
        corrections = ahead / (1 - product * ahead), now
        shared = Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers))
        return shared, self.weighed(numbers)._replace(mu_product=product)

    def _momentum(self, t: Array) -> Array:
        return self.b1 * (1 - 0.5 * jnp.exp(t * self.momentum_decay * math.log(0.96)))

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """Adam's, with other corrections of the first moment."""
        return scale_by_adam(self.b1, self.b2, self.eps, self.eps_root).update_leaf(g, slots, p, shared)


@constructor
def nadam(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    momentum_decay: HyperArg | None = None,
) -> chain:
    """Adam with Nesterov momentum. State: two arrays per parameter.

    `momentum_decay` is None for optax's constant momentum, or the number (4e-3 in PyTorch) of the paper's schedule.

    >>> import gradtx as gx
    >>> gx.nadam(1e-3) == gx.adam(1e-3, nesterov=True)
    True
    >>> gx.nadam(1e-3, momentum_decay=4e-3)
    chain(
      scale_by_nadam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, momentum_decay=0.004),
      scale_by_learning_rate(learning_rate=0.001),
    )

    Raises:
      ValueError: a `momentum_decay` without Nesterov momentum.
    """
    if momentum_decay is None:
        return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    rule = _scheduled("nadam", nesterov, b1, b2, eps, eps_root, mu_dtype, momentum_decay)
    return chain(rule, scale_by_learning_rate(learning_rate))


@constructor
def nadamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = True,
    momentum_decay: HyperArg | None = None,
    decouple_lr: bool = False,
) -> chain:
    """Adam with Nesterov momentum, as in `nadam`, and decoupled weight decay. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> gx.nadamw(1e-3) == gx.adamw(1e-3, nesterov=True)
    True

    Raises:
      ValueError: a `momentum_decay` without Nesterov momentum.
    """
    if momentum_decay is None:
        rule = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    else:
        rule = _scheduled("nadamw", nesterov, b1, b2, eps, eps_root, mu_dtype, momentum_decay)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))


def _scheduled(who: str, nesterov: bool, *args: Any) -> scale_by_nadam:
    if not nesterov:
        raise ValueError(f"{who}: momentum_decay schedules the Nesterov momentum: leave it None, or nesterov True.")
    *first, momentum_decay = args
    return scale_by_nadam(*first, momentum_decay=momentum_decay)
