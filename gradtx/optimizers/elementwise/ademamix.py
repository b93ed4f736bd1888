"""AdEMAMix: Adam with a second, much slower average of the gradient.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    n_t = b3 * n_(t-1) + (1 - b3) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    u_t = (m_t / (1 - b1^t) + alpha * n_t) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Pagliardini, Ablin and Grangier, 2024, "The AdEMAMix Optimizer: Better, Faster, Older", algorithm 1, whose
alpha and b3 follow schedules that start at 0 and b1. Simplified AdEMAMix keeps one sum in place of the averages,

    m_t = b1 * m_(t-1) + g_t
    u_t = (m_t + alpha * g_t) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Morwani et al., 2025, "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD Variants".
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
from gradtx.core.value import dtype
from gradtx.transforms.decay import decoupled_weight_decay

__all__ = [
    "ScaleByAdemamixState",
    "ScaleBySimplifiedAdEMAMixState",
    "ademamix",
    "scale_by_ademamix",
    "scale_by_simplified_ademamix",
    "simplified_ademamix",
]


class ScaleByAdemamixState(NamedTuple):
    """The steps taken, the fast and the slow first moment, and the second.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    m1: Array = per_param(dtype="mu_dtype")
    m2: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_ademamix(Elementwise, state=ScaleByAdemamixState, corrected=("b1", "b2")):
    """The rule of AdEMAMix.

    `b1`, `b2` lie in [0, 1), `b3` in [0, 1]; `alpha`, the weight of the slow average, `eps` and `eps_root` are not
    negative. The first moments are kept in `mu_dtype`, at least float32 by default.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_ademamix(b3=0.9, alpha=2.0)
    >>> print(tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))[0].round(3))  # 1 + 2 * 0.1
    [1.2]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    b3: Hyper = hyper(default=0.9999, ge=0, le=1)
    alpha: Hyper = hyper(default=6.0, ge=0)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        grow_m1, grow_nu = 1 / self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(grow_m1=grow_m1, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        m1 = leaf.moment(slots.m1, g, self.b1)
        m2 = leaf.moment(slots.m2, g, self.b3)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        scale = 1 / (leaf.root(nu * shared.grow_nu, self.eps_root) + self.eps)
        return m1 * scale * shared.grow_m1 + m2 * scale * self.alpha, slots._replace(m1=m1, m2=m2, nu=nu)


@constructor
def ademamix(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    b3: HyperArg = 0.9999,
    alpha: HyperArg = 5.0,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """AdEMAMix with decoupled weight decay. State: three arrays per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.ademamix(1e-3, alpha=gx.linear_schedule(0.0, 5.0, 1000)).links[0].alpha
    linear_schedule(init_value=0.0, end_value=5.0, transition_steps=1000, transition_begin=0)
    """
    rule = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """The steps taken, the decaying sum of gradients, and the second moment.

    `weights` holds what averages with a scheduled decay weigh.
    """

    count: Array = counter()
    m: Array = per_param()
    n: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_simplified_ademamix(Elementwise, state=ScaleBySimplifiedAdEMAMixState, corrected=("b2",)):
    """The rule of simplified AdEMAMix. `b1`, `b2` lie in [0, 1); `alpha`, `eps` and `eps_root` are not negative.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_simplified_ademamix(alpha=2.0)
    >>> updates, _ = tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))
    >>> print(f"{updates[0]:.3f}")  # 1 + 2
    3.000
    """

    b1: Hyper = hyper(default=0.99, ge=0, lt=1)
    b2: Hyper = hyper(default=0.95, ge=0, lt=1)
    alpha: Hyper = hyper(default=0.0, ge=0)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return 1 / self.weight("b2", t, numbers), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        m = slots.m * self.b1 + leaf.bounded(g)  # a sum of the largest numbers would overflow
        n = leaf.moment(slots.n, leaf.abs_sq(g), self.b2)
        scale = 1 / (leaf.root(n * shared, self.eps_root) + self.eps)
        return m * scale + g * scale * self.alpha, slots._replace(m=m, n=n)


@constructor
def simplified_ademamix(
    learning_rate: HyperArg,
    b1: HyperArg = 0.99,
    b2: HyperArg = 0.95,
    alpha: HyperArg = 0.0,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Simplified AdEMAMix with decoupled weight decay. State: two arrays per parameter. `update` needs params.

    The sum is 1 / (1 - b1) times as large as an average: divide the rate you know from Adam by that.

    >>> import gradtx as gx
    >>> gx.simplified_ademamix(1e-5).links[0]
    scale_by_simplified_ademamix(b1=0.99, b2=0.95, alpha=0.0, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
