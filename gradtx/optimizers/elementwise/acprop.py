"""ACProp: a variant of AdaBelief that divides the gradient by the second moment of the previous step.

    u_t = g_t / (sqrt(s_(t-1) / (1 - b2^(t-1)) + eps_root / (1 - b2)) + eps),   u_1 = g_1
    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    s_t = b2 * s_(t-1) + (1 - b2) * |g_t - m_(t-1)|^2

Zhuang et al., 2021, "Momentum Centering and Asynchronous Update for Adaptive Gradient Methods", algorithm 1. While all
gradients of an entry have been zero, its second moment is zero, and its next update is the gradient itself, as at the
first step. In this case optax divides by sqrt(eps_root / (1 - b2)) = 3e-7 instead; optax also adds eps_root to s in the
state.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.optimizers.elementwise.adabelief import ScaleByBeliefState
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["acprop", "scale_by_acprop"]


class scale_by_acprop(Elementwise, state=ScaleByBeliefState, corrected=("b2",)):
    """Divides the gradient by the square root of AdaBelief's second moment from the previous step.

    This is `acprop` without learning rate and weight decay. Because the divisor does not depend on the current
    gradient, a large gradient does not reduce its own update (Zhuang et al., 2021, algorithm 1).

    Args:
      b1: Decay rate of the gradient's moving average, which is subtracted from the gradient in the second moment. In
        [0, 1); default 0.9.
      b2: Decay rate of the second moment, here the moving average of the squared distance between the gradient and its
        average; a value closer to 1 averages over more steps. In [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-16.
      eps_root: `eps_root / (1 - b2)` is added to the second moment under the square root. Not negative; default 1e-16.

    State: two arrays per parameter (8 bytes per entry in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_acprop()
    >>> state = tx.init(jnp.zeros(2))
    >>> for g in (jnp.array([0.0, 2.0]), jnp.array([4.0, 4.0])):
    ...     updates, state = tx.update(g, state)
    >>> print(updates.round(3))  # the first entry has only now its first gradient
    [4. 2.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-16, ge=0)
    eps_root: Hyper = hyper(default=1e-16, ge=0)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        grow_nu = 1 / self.weight("b2", jnp.maximum(t, 2), numbers, ahead=-1)
        return Shared(grow_nu=grow_nu, shift=self.eps_root / (1 - self.b2)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        root = leaf.root(slots.nu * shared.grow_nu, shared.shift) + self.eps
        u = g / jnp.where(slots.nu == 0, 1, root)
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g - slots.mu), self.b2)
        return u, slots._replace(mu=mu, nu=nu)


@constructor
def acprop(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-16,
    eps_root: HyperArg = 1e-16,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
    *,
    decouple_lr: bool = False,
) -> chain:
    """Runs ACProp with decoupled weight decay.

    Try it in place of AdaBelief or Adam when single large gradients destabilize training, as in GANs and reinforcement
    learning. Each gradient is divided by the square root of s, the second moment of the previous step, which does not
    depend on the current gradient (Zhuang et al., 2021, "Momentum Centering and Asynchronous Update for Adaptive
    Gradient Methods", algorithm 1):

        p <- p - learning_rate * (g / (sqrt(s_hat) + eps) + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the gradient's moving average, which is subtracted from the gradient in the second moment. In
        [0, 1); default 0.9.
      b2: Decay rate of the second moment, here the moving average of the squared distance between the gradient and its
        average; a value closer to 1 averages over more steps. In [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-16.
      eps_root: `eps_root / (1 - b2)` is added to the second moment under the square root. Not negative; default 1e-16.
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
    >>> gx.acprop(1e-3).links[0]
    scale_by_acprop(b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16)
    """
    rule = scale_by_acprop(b1, b2, eps, eps_root)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))
