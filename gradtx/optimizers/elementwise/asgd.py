"""Averaged stochastic gradient descent: a decaying rate, and the average of the parameters.

    eta_1 = eta,   eta_t = eta / (1 + lambd * eta * (t - 1))^alpha
    x_t   = (1 - lambd * eta_t) * x_(t-1) - eta_t * g_t
    mu_t  = 1 / max(1, t - 1 - t0)
    ax_t  = ax_(t-1) + mu_t * (x_t - ax_(t-1))

Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging", with the rate of Bottou, 2012,
"Stochastic Gradient Descent Tricks" (alpha = 3/4 for averaging), as PyTorch has it: `ax` follows the parameters
until step t0, and is their mean from there on.
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
from gradtx.core.slots import counter, per_param, per_tree
from gradtx.transforms.decay import add_decayed_weights
from gradtx.types import Mask, Slots

__all__ = ["ScaleByAsgdState", "asgd", "scale_by_asgd"]


class ScaleByAsgdState(NamedTuple):
    """The steps taken, the average of the parameters (zero before the first step), and the next step's rate."""

    count: Array = counter()
    ax: Array = per_param()
    eta: Array = per_tree(start="learning_rate", signed=False)


class scale_by_asgd(Elementwise, state=ScaleByAsgdState, needs=("params",)):
    """The rule of averaged descent; its update is the step itself, sign and rate included.

    It is the last link of a chain: `ax` averages the parameters to which its updates lead. `learning_rate`,
    `lambd` and `alpha` are not negative. The rate of a step is computed at the end of the step before, so a
    schedule in `learning_rate` acts one step late, as in PyTorch.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_asgd(learning_rate=0.5, lambd=0.0, t0=0.0)
    >>> x = jnp.zeros(1)
    >>> state = tx.init(x)
    >>> for _ in range(3):
    ...     updates, state = tx.update(jnp.ones(1), state, x)
    ...     x = gx.apply_updates(x, updates)
    >>> print(x, state.ax)  # the mean of -1 and -1.5
    [-1.5] [-1.25]
    """

    learning_rate: Hyper = hyper(default=0.01, ge=0)
    lambd: Hyper = hyper(default=1e-4, ge=0)
    alpha: Hyper = hyper(default=0.75, ge=0)
    t0: Hyper = hyper(default=1e6)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        eta = numbers.eta
        steps = jnp.asarray(t, eta.dtype)
        next_eta = self.learning_rate / (1 + self.lambd * self.learning_rate * steps) ** self.alpha
        mu = jnp.where(t == 1, 1, 1 / jnp.maximum(steps - 1 - self.t0, 1))
        return Shared(eta=eta, decay=eta * self.lambd, mu=mu), numbers._replace(eta=next_eta)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        u = -(g * shared.eta + p * shared.decay)
        return u, slots._replace(ax=slots.ax * (1 - shared.mu) + (p + u) * shared.mu)


@constructor
def asgd(
    learning_rate: HyperArg = 0.01,
    lambd: HyperArg = 1e-4,
    alpha: HyperArg = 0.75,
    t0: HyperArg = 1e6,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """Averaged gradient descent; the average is in the last link's state, `state[-1].ax`.

    The decay is an L2 penalty on the leaves that `mask` selects (all by default): it is added to the gradient
    before the rule; the number 0 leaves the link out. State: one array per parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.asgd(0.1)
    chain(scale_by_asgd(learning_rate=0.1, lambd=0.0001, alpha=0.75, t0=1000000.0))
    """
    rule = scale_by_asgd(learning_rate, lambd, alpha, t0)
    decay = add_decayed_weights(weight_decay, mask)
    if leaf.is_number(decay.weight_decay) and decay.weight_decay == 0:
        return chain(rule)
    return chain(decay, rule)
