"""NAdam: Adam with Nesterov momentum, with or without decoupled weight decay.

    u_t = (mu_(t+1) * m_t / (1 - P_(t+1)) + (1 - mu_t) * g_t / (1 - P_t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

    mu_t = b1 * (1 - 0.96^(t * momentum_decay) / 2),   P_t = mu_1 * ... * mu_t

with m_t and v_t as in Adam. PyTorch's NAdam is the same: Dozat, 2016, "Incorporating Nesterov Momentum into Adam",
algorithm 2, without the factor b2 on v, and with the paper's schedule of mu_t (momentum_decay = 1/250). optax's NAdam
uses the constant mu_t = b1, so P_t = b1^t; for this version use `gradtx.scale_by_adam(nesterov=True)`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param, per_tree
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import adam, scale_by_adam
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask

__all__ = ["ScaleByNadamState", "nadam", "nadamw", "scale_by_nadam"]


class ScaleByNadamState(NamedTuple):
    """The state of `scale_by_nadam`.

    `count`: the number of steps taken. `mu`, `nu`: the first and second moment, before bias correction. `mu_product`:
    the product of mu_t over all steps so far. `weights`: for each decay rate that is a schedule, the divisor of the
    bias correction, which is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a
    schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    mu_product: Array = per_tree(start=1.0, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_nadam(Elementwise, state=ScaleByNadamState, corrected=("b2",)):
    """Computes NAdam's update; the decay rate of the first moment grows from b1 / 2 to b1.

    This is the transformation that `nadam` and `nadamw` use if `momentum_decay` is given; the formula is in the
    module's docstring. For a constant decay rate use `scale_by_adam(nesterov=True)`.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      momentum_decay: How fast the decay rate of the first moment grows to b1: at step t it is b1 * (1 - 0.96^(t *
        momentum_decay) / 2). The paper uses 1/250. Not negative; default 4e-3.

    State: two arrays per parameter (8 bytes per entry in float32; the second moment of a complex parameter is real).

    Reference: Dozat, 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_nadam()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(4), f"{state.mu_product:.4f}")
    [ 1.0565 -1.0565] 0.4501
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    momentum_decay: Hyper = hyper(default=4e-3, ge=0, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        steps = jnp.asarray(t, numbers.mu_product.dtype)
        product = numbers.mu_product * self._momentum(steps)
        ahead = self._momentum(steps + 1)
        now = (1 - self._momentum(steps)) / (1 - product)
        corrections = ahead / (1 - product * ahead), now
        shared = Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers))
        return shared, self.weighed(numbers)._replace(mu_product=product)

    def _momentum(self, t: Array) -> Array:
        return self.b1 * (1 - 0.5 * jnp.exp(t * self.momentum_decay * math.log(0.96)))

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        """Computes Adam's update, with NAdam's corrections of the first moment."""
        return scale_by_adam(self.b1, self.b2, self.eps, self.eps_root).update_leaf(g, slots, p, shared)


@constructor
def nadam(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    momentum_decay: HyperArg | None = None,
) -> chain:
    """Runs Adam with Nesterov momentum, which reacts to a new gradient sooner than Adam.

    Try it in place of Adam, with the same hyperparameters. With Adam's moments m and v and a constant b1 (Dozat, 2016,
    "Incorporating Nesterov Momentum into Adam", algorithm 2, without the factor b2 on v):

        m' = b1 * m / (1 - b1^(t+1)) + (1 - b1) * g / (1 - b1^t)
        p <- p - learning_rate * m' / (sqrt(v_hat + eps_root) + eps)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default True.
      momentum_decay: How fast the decay rate of the first moment grows to b1: at step t it is b1 * (1 - 0.96^(t *
        momentum_decay) / 2). PyTorch and the paper use 4e-3. By default the decay rate is always b1, as in optax. Not
        negative.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    Raises:
      ValueError: `momentum_decay` is given together with `nesterov=False`.

    >>> import gradtx as gx
    >>> gx.nadam(1e-3) == gx.adam(1e-3, nesterov=True)
    True
    >>> gx.nadam(1e-3, momentum_decay=4e-3)
    chain(
      scale_by_nadam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, momentum_decay=0.004),
      scale_by_learning_rate(learning_rate=0.001),
    )
    """
    if momentum_decay is None:
        return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    rule = _scheduled("nadam", nesterov, b1, b2, eps, eps_root, mu_dtype, momentum_decay)
    return chain(rule, scale_by_learning_rate(learning_rate))


@constructor
def nadamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = True,
    momentum_decay: HyperArg | None = None,
    decouple_lr: bool = False,
) -> chain:
    """Runs Adam with Nesterov momentum and decoupled weight decay.

    Try it in place of AdamW, with the same hyperparameters. With m' and Adam's second moment v as in `nadam` (Dozat,
    2016, "Incorporating Nesterov Momentum into Adam"; Loshchilov and Hutter, 2019, "Decoupled Weight Decay
    Regularization"):

        p <- p - learning_rate * (m' / (sqrt(v_hat + eps_root) + eps) + weight_decay * p)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 1e-4.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default True.
      momentum_decay: How fast the decay rate of the first moment grows to b1: at step t it is b1 * (1 - 0.96^(t *
        momentum_decay) / 2). PyTorch and the paper use 4e-3. By default the decay rate is always b1, as in optax. Not
        negative.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation whose `update` needs `params`. State: two arrays per parameter (8 bytes per entry in float32).

    Raises:
      ValueError: `momentum_decay` is given together with `nesterov=False`.

    >>> import gradtx as gx
    >>> gx.nadamw(1e-3) == gx.adamw(1e-3, nesterov=True)
    True
    """
    if momentum_decay is None:
        rule = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    else:
        rule = _scheduled("nadamw", nesterov, b1, b2, eps, eps_root, mu_dtype, momentum_decay)
    return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))


def _scheduled(who: str, nesterov: bool, *args: Any) -> scale_by_nadam:
    if not nesterov:
        raise ValueError(
            f"{who}: momentum_decay changes the Nesterov momentum, but nesterov is False. Leave momentum_decay out, or "
            "set nesterov=True."
        )
    *first, momentum_decay = args
    return scale_by_nadam(*first, momentum_decay=momentum_decay)
