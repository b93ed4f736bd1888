"""AdEMAMix: adds a second, much slower moving average of the gradient to Adam.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    n_t = b3 * n_(t-1) + (1 - b3) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    u_t = (m_t / (1 - b1^t) + alpha * n_t) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Pagliardini, Ablin and Grangier, 2024, "The AdEMAMix Optimizer: Better, Faster, Older", algorithm 1. In the paper, alpha
and b3 follow schedules that start at 0 and at b1. Simplified AdEMAMix replaces both averages by one decaying sum:

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
    """The state of `scale_by_ademamix`.

    `count`: the number of steps taken. `m1`, `m2`: the fast and the slow first moment. `nu`: the second moment.
    `weights`: for each decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the product
    of the decay rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    m1: Array = per_param(dtype="mu_dtype")
    m2: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_ademamix(Elementwise, state=ScaleByAdemamixState, corrected=("b1", "b2")):
    """Computes AdEMAMix's update: Adam with an additional slow average of the gradient.

    This is `ademamix` without learning rate and weight decay:

        u = (m_hat + alpha * n) / (sqrt(v_hat + eps_root) + eps)

    where m and v are Adam's moments, and n is the slow average, which is not corrected for its start at zero.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      b3: Decay rate of the slow moving average; 0.9999 averages over about 10000 steps. In [0, 1]; default 0.9999.
      alpha: Factor of the slow average in the update. Not negative; default 6.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    State: three arrays per parameter (12 bytes per entry in float32).

    Reference: Pagliardini, Ablin and Grangier, 2024, "The AdEMAMix Optimizer: Better, Faster, Older", algorithm 1.

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
    """Runs AdEMAMix: Adam plus an average over thousands of past gradients, with decoupled weight decay.

    Use it for long runs, such as language model pretraining, in which old gradients still help. With Adam's moments m
    and v, and a slow moving average n of the gradient (Pagliardini, Ablin and Grangier, 2024, "The AdEMAMix Optimizer:
    Better, Faster, Older", algorithm 1):

        p <- p - learning_rate * ((m_hat + alpha * n) / (sqrt(v_hat + eps_root) + eps) + weight_decay * p)

    In the paper alpha rises from 0, and b3 rises from b1, which keeps the first steps stable. To do the same, pass
    schedules for `alpha` and `b3`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      b3: Decay rate of the slow moving average; 0.9999 averages over about 10000 steps. In [0, 1]; default 0.9999.
      alpha: Factor of the slow average in the update: a number or a schedule. The paper uses 5 to 8. Not negative;
        default 5.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
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
      A transformation whose `update` needs `params`. State: three arrays per parameter (12 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.ademamix(1e-3, alpha=gx.linear_schedule(0.0, 5.0, 1000)).links[0].alpha
    linear_schedule(init_value=0.0, end_value=5.0, transition_steps=1000, transition_begin=0)
    """
    rule = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """The state of `scale_by_simplified_ademamix`.

    `count`: the number of steps taken. `m`: the decaying sum of gradients. `n`: the second moment. `weights`: for each
    decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the product of the decay rates
    of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    m: Array = per_param()
    n: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_simplified_ademamix(Elementwise, state=ScaleBySimplifiedAdEMAMixState, corrected=("b2",)):
    """Divides a decaying sum of gradients, plus the current gradient, by the square root of the second moment.

    This is `simplified_ademamix` without learning rate and weight decay:

        u = (m + alpha * g) / (sqrt(v_hat + eps_root) + eps),    m <- b1 * m + g

    Args:
      b1: Decay rate of the sum of gradients; a value closer to 1 sums over more steps. In [0, 1); default 0.99.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.95 (about the last 20 steps).
      alpha: Factor of the current gradient. Not negative; default 0.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Morwani et al., 2025, "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD
    Variants".

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
        m = slots.m * self.b1 + leaf.bounded(g)  # so that the sum does not overflow
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
    """Runs simplified AdEMAMix with decoupled weight decay.

    Use it for an effect similar to AdEMAMix with only the memory of Adam. With the second moment v of Adam (Morwani et
    al., 2025, "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD Variants"):

        m <- b1 * m + g
        p <- p - learning_rate * ((m + alpha * g) / (sqrt(v_hat + eps_root) + eps) + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). The sum m is 1 / (1 - b1) times
        as large as Adam's average, so multiply the learning rate that you use with Adam by 1 - b1, which is 0.01 by
        default. Not negative.
      b1: Decay rate of the sum of gradients; a value closer to 1 sums over more steps. In [0, 1); default 0.99.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.95 (about the last 20 steps).
      alpha: Factor of the current gradient. Not negative; default 0.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
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
    >>> gx.simplified_ademamix(1e-5).links[0]
    scale_by_simplified_ademamix(b1=0.99, b2=0.95, alpha=0.0, eps=1e-08, eps_root=0.0)
    """
    rule = scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
