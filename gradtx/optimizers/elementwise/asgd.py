"""Averaged stochastic gradient descent: gradient descent with a decaying step size and an average of the parameters.

    eta_1 = eta,   eta_t = eta / (1 + lambd * eta * (t - 1))^alpha
    x_t   = (1 - lambd * eta_t) * x_(t-1) - eta_t * g_t
    mu_t  = 1 / max(1, t - 1 - t0)
    ax_t  = ax_(t-1) + mu_t * (x_t - ax_(t-1))

Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging", with the step size of Bottou, 2012,
"Stochastic Gradient Descent Tricks" (alpha = 3/4 for averaging), as in PyTorch. Until step t0, `ax` equals the
parameters; after step t0, `ax` is the mean of the parameters since then.
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
    """The state of `scale_by_asgd`.

    `count`: the number of steps taken. `ax`: the average of the parameters, zero before the first step. `eta`: the step
    size of the next step.
    """

    count: Array = counter()
    ax: Array = per_param()
    eta: Array = per_tree(start="learning_rate", signed=False)


class scale_by_asgd(Elementwise, state=ScaleByAsgdState, needs=("params",)):
    """Takes a gradient step of decaying size and averages the parameters.

    This is the transformation that `asgd` uses. Put it last in a chain and do not add `scale_by_learning_rate`, because
    the update already includes the step size and the minus sign. `ax` in the state averages the parameters after each
    update.

    Args:
      learning_rate: Step size of the first step: a number or a schedule. The step size of each step is computed at the
        end of the previous step, so a schedule takes effect one step later, as in PyTorch. Not negative; default 0.01.
      lambd: Sets two things: how fast the step size decays, and the strength of a weight decay (each step also
        subtracts `lambd * eta * params`, where eta is the step size). Not negative; default 1e-4.
      alpha: Power with which the step size decays; 3/4 suits averaging. Not negative; default 0.75.
      t0: Step at which averaging starts; until then `ax` equals the parameters. The default, 1e6, is the same as in
        PyTorch; choose a smaller value for a shorter run.

    State: one array per parameter (4 bytes per entry in float32). `update` needs `params`.

    Reference: Polyak and Juditsky, 1992, "Acceleration of Stochastic Approximation by Averaging".

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
    """Runs gradient descent with a decaying step size and averages the parameters.

    Use it for convex problems and linear models, for which the average of the parameters is a better result than the
    final parameters. Read the average from `state[-1].ax` (Polyak and Juditsky, 1992, "Acceleration of Stochastic
    Approximation by Averaging", with the step size of Bottou, 2012, as in PyTorch):

        eta = learning_rate / (1 + lambd * learning_rate * steps)^alpha
        p  <- (1 - lambd * eta) * p - eta * g
        ax <- ax + (p - ax) / max(1, steps - t0)

    where `steps` is the number of steps taken before this one.

    Args:
      learning_rate: Step size of the first step: a number or a schedule. The step size of each step is computed at the
        end of the previous step, so a schedule takes effect one step later, as in PyTorch. Not negative; default 0.01.
      lambd: Sets two things: how fast the step size decays, and the strength of a weight decay (each step also
        subtracts `lambd * eta * params`, where eta is the step size). Not negative; default 1e-4.
      alpha: Power with which the step size decays; 3/4 suits averaging. Not negative; default 0.75.
      t0: Step at which averaging starts; until then `ax` equals the parameters. The default, 1e6, is the same as in
        PyTorch; choose a smaller value for a shorter run.
      weight_decay: Strength of the L2 penalty: `weight_decay * params` is added to the gradient before anything else is
        computed. Not negative; default 0 (no penalty).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation whose `update` needs `params`. State: one array per parameter (4 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.asgd(0.1)
    chain(scale_by_asgd(learning_rate=0.1, lambd=0.0001, alpha=0.75, t0=1000000.0))
    """
    rule = scale_by_asgd(learning_rate, lambd, alpha, t0)
    decay = add_decayed_weights(weight_decay, mask)
    if leaf.is_number(decay.weight_decay) and decay.weight_decay == 0:
        return chain(rule)
    return chain(decay, rule)
