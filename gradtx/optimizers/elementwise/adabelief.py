"""AdaBelief: Adam whose second moment is that of the surprise, the gradient's distance from its average.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    s_t = b2 * s_(t-1) + (1 - b2) * |g_t - m_t|^2 + eps_root
    u_t = (m_t / (1 - b1^t)) / (sqrt(s_t / (1 - b2^t)) + eps)

Zhuang et al., 2020, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", algorithm 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import flag
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleByBeliefState", "adabelief", "scale_by_belief"]


class ScaleByBeliefState(NamedTuple):
    """The steps taken, the first moment, and the second moment of the surprise.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    mu: Array = per_param()
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_belief(Elementwise, state=ScaleByBeliefState, corrected=("b1", "b2")):
    """The rule of AdaBelief. `b1` and `b2` lie in [0, 1), `eps` and `eps_root` are not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_belief(b1=0.5)
    >>> updates, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> print(updates.round(3), state.mu)  # the surprise is 2 - 1
    [2.] [1.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-16, ge=0)
    eps_root: Hyper = hyper(default=1e-16, ge=0)
    nesterov: bool = flag(default=False, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections = self.debias("b1", t, numbers, self.nesterov)
        return Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        # The last sum has two arrays, so that it is computed once: see `leaf.at_most`.
        nu = self.b2 * slots.nu + ((1 - self.b2) * leaf.abs_sq(g - mu) + self.eps_root)
        root = leaf.root(nu * shared.grow_nu) + self.eps
        return leaf.debiased_ratio(mu, g, root, shared.corrections), slots._replace(mu=mu, nu=nu)


@constructor
def adabelief(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-16,
    eps_root: HyperArg = 1e-16,
    *,
    nesterov: bool = False,
) -> chain:
    """AdaBelief. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> gx.adabelief(1e-3).links[0]
    scale_by_belief(b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16)
    """
    rule = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov)
    return chain(rule, scale_by_learning_rate(learning_rate))
