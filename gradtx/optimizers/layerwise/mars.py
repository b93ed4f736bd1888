"""MARS: reduces the variance of the gradients of any optimizer, by means of the difference from the previous gradient.

    c_t = g_t + gamma * b1 / (1 - b1) * (g_t - g_(t-1)),   g_0 = g_1
    u_t = c_t / max(1, |c_t| / max_norm)                     separately for every tensor

Yuan, Liu, Wu, Zhou and Gu, 2024, "MARS: Unleashing the Power of Variance Reduction for Training Large Models",
algorithm 1 in its approximate form: g_(t-1) is the gradient that was computed on the previous batch, so a step does not
need a second gradient. MARS-AdamW is algorithm 2. `b1` should be the decay rate of the momentum in the optimizer that
follows. As in the algorithm, where x_0 = x_1, the first gradient is not corrected; the authors' code
(github.com/AGI-Arena/MARS) starts from g_0 = 0. By default, the authors' code also trains vectors with AdamW. Here all
leaves are treated in the same way; use `partition` to train some of them with a different optimizer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise
from gradtx.core.slots import counter, per_param
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay

__all__ = ["ReduceVarianceState", "mars", "reduce_variance"]


class ReduceVarianceState(NamedTuple):
    """The state of `reduce_variance`. `count`: the number of steps taken. `last_grad`: the previous gradient."""

    count: Array = counter()
    last_grad: Array = per_param(dtype="accumulator_dtype")


class reduce_variance(Layerwise, state=ReduceVarianceState):
    """Reduces the variance of the gradient before it is passed to an optimizer, as in MARS.

    Put it before any optimizer with momentum, as in the example. It extrapolates the gradient along its change since
    the previous step, and clips the norm of every leaf:

        c = g + gamma * b1 / (1 - b1) * (g - g_previous)
        u = c / max(1, |c| / max_norm)

    Args:
      b1: Decay rate of the momentum in the optimizer that follows. In [0, 1); default 0.95.
      gamma: Strength of the correction; 0 disables it. Not negative; default 0.025.
      max_norm: Largest norm of a leaf's corrected gradient; infinity disables clipping. Not negative; default 1.
      accumulator_dtype: Dtype in which the previous gradient is stored, such as `jnp.bfloat16` to save memory; by
        default the parameter's dtype, but at least float32.

    State: one array per parameter (4 bytes per entry in float32).

    Reference: Yuan, Liu, Wu, Zhou and Gu, 2024, "MARS: Unleashing the Power of Variance Reduction for Training Large
    Models", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.reduce_variance(b1=0.5, gamma=0.5), gx.sgd(0.1, momentum=0.5))  # any method
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (0.4, 0.2):  # the second is corrected to 0.2 + 0.5 * (0.2 - 0.4)
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(updates.round(4))
    [-0.03]
    """

    b1: Hyper = hyper(default=0.95, ge=0, lt=1)
    gamma: Hyper = hyper(default=0.025, ge=0)
    max_norm: Hyper = hyper(default=1.0, ge=0, infinite=True)
    accumulator_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        """Returns the strength of the correction."""
        return jnp.where(t == 1, 0.0, self.gamma * self.b1 / (1 - self.b1)), numbers

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        # c_t is computed as a weighted mean of g and -g_(t-1), scaled up afterwards, because the norm of c_t may
        # overflow.
        stretch = 1 + 2 * shared
        mean = g * ((1 + shared) / stretch) - slots.last_grad * (shared / stretch)
        unit, norm = tree.scaled(mean)  # the norm of the mean is unit * norm
        short = norm <= self.max_norm / stretch / unit
        first = jnp.where(short, stretch, 1 / unit)
        second = jnp.where(short, 1, self.max_norm / jnp.where(short, 1, norm))
        return mean * first * second, slots._replace(last_grad=g)


@constructor
def mars(
    learning_rate: HyperArg,
    b1: HyperArg = 0.95,
    b2: HyperArg = 0.99,
    eps: HyperArg = 1e-8,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    *,
    gamma: HyperArg = 0.025,
    max_norm: HyperArg = 1.0,
    decouple_lr: bool = False,
) -> chain:
    """Runs MARS-AdamW: AdamW on gradients of reduced variance.

    Use it in place of AdamW when gradients are noisy and there is memory for one more array. For a different optimizer
    use `chain(reduce_variance(b1), optimizer)`; with `lion` this gives MARS-Lion. With c, the corrected gradient (Yuan,
    Liu, Wu, Zhou and Gu, 2024, "MARS: Unleashing the Power of Variance Reduction for Training Large Models", algorithm
    2):

        c  = g + gamma * b1 / (1 - b1) * (g - g_previous),    clipped to norm max_norm in every leaf
        p <- p - learning_rate * (Adam's update of c + weight_decay * p)

    The defaults are taken from the authors' code.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 3e-3 in the authors' code. Not
        negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.95 (about the last 20 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.99 (about the last 100 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      gamma: Strength of the correction; 0 disables it. Not negative; default 0.025.
      max_norm: Largest norm of a leaf's corrected gradient; infinity disables clipping. Not negative; default 1.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: three arrays per parameter (12 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.mars(3e-3)
    chain(
      reduce_variance(b1=0.95, gamma=0.025, max_norm=1.0),
      scale_by_adam(b1=0.95, b2=0.99, eps=1e-08, eps_root=0.0),
      add_decayed_weights(weight_decay=0.0),
      scale_by_learning_rate(learning_rate=0.003),
    )
    """
    return chain(
        reduce_variance(b1, gamma, max_norm),
        scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype),
        *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr),
    )
