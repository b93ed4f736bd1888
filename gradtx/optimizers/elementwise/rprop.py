"""Rprop: gives every entry its own step size, which grows while the gradient keeps its sign.

    s_t = sign(g_t * g_(t-1))
    d_t = min(max_step_size, eta_plus * d_(t-1))     if s_t > 0
          max(min_step_size, eta_minus * d_(t-1))    if s_t < 0
          d_(t-1)                                    if s_t = 0
    u_t = sign(g_t) * d_t,   but u_t = 0 if s_t < 0; then s_(t+1) = 0, as at the first step

Riedmiller and Braun, 1993, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm", without
weight backtracking, as in optax and PyTorch.
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
    """The state of `scale_by_rprop`.

    `step_sizes`: the step size of every entry. `prev_updates`: the previous update, before its sign is flipped for
    descent. `count`: the number of steps taken.
    """

    step_sizes: Array = per_param(start="learning_rate", signed=False)
    prev_updates: Array = per_param()
    count: Array = counter()


class scale_by_rprop(Elementwise, state=ScaleByRpropState, real=True):
    """Gives every entry a step size that grows while its gradient keeps its sign and shrinks when the sign changes.

    This is the transformation that `rprop` uses; the parameters must be real. It uses only the signs of the gradients.

    Args:
      learning_rate: Step size of the first step, used only by `init`. Not negative.
      eta_minus: Factor by which a step size shrinks when the gradient changes its sign. In (0, 1); default 0.5.
      eta_plus: Factor by which a step size grows while the gradient keeps its sign. At least 1; default 1.2.
      min_step_size: Smallest step size. Positive; default 1e-6.
      max_step_size: Largest step size. Positive; default 50.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Riedmiller and Braun, 1993, "A Direct Adaptive Method for Faster Backpropagation Learning".

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
    """Runs Rprop, for gradients of the whole data set.

    Use it when every gradient is computed on all data, so that its signs are exact. With small batches, noise changes
    the signs, and the step sizes become tiny (Riedmiller and Braun, 1993, "A Direct Adaptive Method for Faster
    Backpropagation Learning: The RPROP Algorithm"):

        d <- d * eta_plus if the gradient keeps its sign,   d * eta_minus if the sign changes
        p <- p - sign(g) * d

    An entry does not change at a step at which its gradient changes sign.

    Args:
      learning_rate: Step size of the first step, used only by `init`. Not negative.
      eta_minus: Factor by which a step size shrinks when the gradient changes its sign. In (0, 1); default 0.5.
      eta_plus: Factor by which a step size grows while the gradient keeps its sign. At least 1; default 1.2.
      min_step_size: Smallest step size. Positive; default 1e-6.
      max_step_size: Largest step size. Positive; default 50.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> print(gx.rprop(0.01))
    chain(
      scale_by_rprop(learning_rate=0.01, eta_minus=0.5, eta_plus=1.2, min_step_size=1e-06, max_step_size=50.0),
      scale(step_size=-1.0),
    )
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))
