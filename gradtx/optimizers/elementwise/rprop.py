"""Rprop: every entry has a step size of its own, which grows while the gradient keeps its sign.

    s_t = sign(g_t * g_(t-1))
    d_t = min(max_step_size, eta_plus * d_(t-1))     where s_t > 0
          max(min_step_size, eta_minus * d_(t-1))    where s_t < 0
          d_(t-1)                                    where s_t = 0
    u_t = sign(g_t) * d_t,   and 0 where s_t < 0, after which the next step counts as the first

Riedmiller and Braun, 1993, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP
Algorithm", without weight backtracking, as in optax and PyTorch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise
from gradtx.core.slots import counter, per_param
from gradtx.transforms.scale import scale
from gradtx.types import Slots

__all__ = ["ScaleByRpropState", "rprop", "scale_by_rprop"]


class ScaleByRpropState(NamedTuple):
    """The steps taken, the step sizes, and the last step (before its sign is flipped)."""

    step_sizes: Array = per_param(start="learning_rate", signed=False)
    prev_updates: Array = per_param()
    count: Array = counter()


class scale_by_rprop(Elementwise, state=ScaleByRpropState, real=True):
    """The rule of Rprop, for real parameters.

    `learning_rate` is the first step size (read by `init` alone), `eta_minus` lies in (0, 1), `eta_plus`
    (default 1.2) is at least 1, and the step sizes stay between `min_step_size` and `max_step_size`, both positive.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_rprop(0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> for g in (jnp.array([3.0, 3.0]), jnp.array([7.0, -7.0])):
    ...     updates, state = tx.update(g, state)
    >>> print(updates.round(2), state.step_sizes.round(2))
    [0.12 0.  ] [0.12 0.05]
    """

    learning_rate: Hyper = hyper(ge=0)
    eta_minus: Hyper = hyper(default=0.5, gt=0, lt=1)
    eta_plus: Hyper = hyper(default=1.2, ge=1)
    min_step_size: Hyper = hyper(default=1e-6, gt=0)
    max_step_size: Hyper = hyper(default=50.0, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.ordered("scale_by_rprop", min_step_size=self.min_step_size, max_step_size=self.max_step_size)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        s = leaf.sign(g) * leaf.sign(slots.prev_updates)
        changed = slots.step_sizes * jnp.where(s > 0, self.eta_plus, self.eta_minus)
        step = jnp.where(s == 0, slots.step_sizes, jnp.clip(changed, self.min_step_size, self.max_step_size))
        u = jnp.where(s < 0, 0, step * leaf.sign(g))
        return u, slots._replace(step_sizes=step, prev_updates=u)


@constructor
def rprop(
    learning_rate: HyperArg,
    eta_minus: HyperArg = 0.5,
    eta_plus: HyperArg = 1.2,
    min_step_size: HyperArg = 1e-6,
    max_step_size: HyperArg = 50.0,
) -> chain:
    """Rprop, for gradients of the whole data set. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> print(gx.rprop(0.01))
    chain(
      scale_by_rprop(learning_rate=0.01, eta_minus=0.5, eta_plus=1.2, min_step_size=1e-06, max_step_size=50.0),
      scale(step_size=-1.0),
    )
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))
