"""MARS: a gradient with less variance, for any method, from the difference to the last gradient.

    c_t = g_t + gamma * b1 / (1 - b1) * (g_t - g_(t-1)),   g_0 = g_1
    u_t = c_t / max(1, |c_t| / max_norm)                     every tensor by itself

Yuan, Liu, Wu, Zhou and Gu, 2024, "MARS: Unleashing the Power of Variance Reduction for Training Large
Models", algorithm 1 in its approximate form, which takes the last gradient as it was (on the last
batch), and costs no further gradient. MARS-AdamW is algorithm 2. `b1` is the decay of the momentum
that follows. As in the algorithm, where x_0 = x_1, there is nothing to correct at the first step; the
authors' code (github.com/AGI-Arena/MARS) starts from g_0 = 0. That code leaves vectors to AdamW by
default; here all leaves are treated alike, and `partition` gives some of them another method.
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
    """The steps taken, and the last gradient."""

    count: Array = counter()
    last_grad: Array = per_param(dtype="accumulator_dtype")


class reduce_variance(Layerwise, state=ReduceVarianceState):
    """MARS's gradient: the gradient pushed on along its last change, with norm at most `max_norm` in every leaf.

    `b1` (0.95), in [0, 1), is the momentum of the method that follows; `gamma` (0.025) is not negative,
    and 0 corrects nothing; `max_norm` (1) is not negative and may be infinite. The last gradient is kept
    in `accumulator_dtype`, by default the parameter's dtype but at least float32.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); closer to 1 averages over more steps. In
        [0, 1); default 0.95 (about the last 20 steps).
      accumulator_dtype: Dtype in which the average is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

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
        """How strong the correction is."""
        return jnp.where(t == 1, 0.0, self.gamma * self.b1 / (1 - self.b1)), numbers

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        # A mean of g and -g_(t-1) first, then its stretch to c_t: the norm may be too large to represent.
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
    """MARS-AdamW, with decoupled weight decay on the leaves that `mask` selects (all by default).

    Another method takes AdamW's place in `chain(reduce_variance(b1), method)`: MARS-Lion with `lion`.
    The defaults are the authors', whose rate is 3e-3. With `decouple_lr` the decay is not scaled by
    the learning rate. State: three arrays per parameter. `update` needs params.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); closer to 1 averages over more steps. In
        [0, 1); default 0.95 (about the last 20 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); closer to 1 averages over more
        steps. In [0, 1); default 0.99 (about the last 100 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (use a larger one, such as 1e-6,
        if the gradients are tiny or noisy).
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also moves a parameter towards zero by
        `learning_rate * weight_decay` of its value. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans like the
        parameters, or a function of the parameters that returns one; all by default, though biases and norm scales are
        usually left out.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then shrinks the parameters
        by `weight_decay` itself instead of `learning_rate * weight_decay`. Default False.

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
