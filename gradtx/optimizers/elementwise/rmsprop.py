"""RMSProp: divides the gradient by the square root of the moving average of the squared gradient.

    v_t = decay * v_(t-1) + (1 - decay) * |g_t|^2,   v_0 = initial_scale
    u_t = g_t / sqrt(v_t + eps)                      (eps_in_sqrt)
    u_t = g_t / (sqrt(v_t) + eps)                    (otherwise)

Tieleman and Hinton, 2012, lecture 6.5. With `centered`, v_t - |m_t|^2 replaces v_t, where m_t is the moving average of
the gradient (Graves, 2013, "Generating Sequences With Recurrent Neural Networks"). With `bias_correction` both averages
are first divided by 1 - decay^t.
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
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import flag
from gradtx.transforms.momentum import trace
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Transformation

__all__ = ["ScaleByRStdDevState", "ScaleByRmsState", "rmsprop", "scale_by_rms", "scale_by_stddev"]


class ScaleByRmsState(NamedTuple):
    """The state of `scale_by_rms`.

    `nu`: the second moment. `count`: the number of steps taken. `weights`: if the decay rate is a schedule, the sum of
    the averaging weights.
    """

    nu: Array = per_param(start="initial_scale", real=True, signed=False)
    count: Array = counter()
    weights: dict[str, Array] = average_weights(when="bias_correction")


class ScaleByRStdDevState(NamedTuple):
    """The state of `scale_by_stddev`.

    `mu`, `nu`: the first and second moment. `count`: the number of steps taken. `weights`: if the decay rate is a
    schedule, the sum of the averaging weights.
    """

    mu: Array = per_param()
    nu: Array = per_param(start="initial_scale", real=True, signed=False)
    count: Array = counter()
    weights: dict[str, Array] = average_weights(when="bias_correction")


def _over_root(g: Array, v: Array, eps: Any, eps_in_sqrt: bool) -> Array:
    return g / (leaf.root(v, eps) if eps_in_sqrt else leaf.root(v) + eps)


class scale_by_rms(Elementwise, state=ScaleByRmsState, corrected=("decay",)):
    """Divides the gradient by the square root of its second moment.

    This is `rmsprop` without learning rate and momentum:

        u = g / sqrt(v + eps),    v: moving average of |g|^2

    Args:
      decay: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.9.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      initial_scale: Initial value of the second moment; a larger value makes the first updates smaller. Not negative;
        default 0.
      eps_in_sqrt: Whether to add `eps` under the square root, as optax does, instead of adding it to the square root,
        as PyTorch does. Default True.
      bias_correction: Whether to divide each moving average by the sum of its averaging weights, which is less than 1
        because the average starts at zero. Default False.

    State: one array per parameter (4 bytes per entry in float32).

    Reference: Tieleman and Hinton, 2012, lecture 6.5.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_rms(decay=0.75)
    >>> updates, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> print(updates, state.nu)
    [2.] [1.]
    """

    decay: Hyper = hyper(default=0.9, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    initial_scale: Hyper = hyper(default=0.0, ge=0)
    eps_in_sqrt: bool = flag(default=True)
    bias_correction: bool = flag(default=False)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return (self.weight("decay", t, numbers), self.weighed(numbers)) if self.bias_correction else (1, numbers)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.decay)
        return _over_root(g, nu / shared, self.eps, self.eps_in_sqrt), slots._replace(nu=nu)


class scale_by_stddev(Elementwise, state=ScaleByRStdDevState, corrected=("decay",)):
    """Divides the gradient by its running standard deviation.

    This is `rmsprop(centered=True)` without learning rate and momentum:

        u = g / sqrt(v - |m|^2 + eps),    m, v: moving averages of g and |g|^2

    Args:
      decay: Decay rate of both moving averages; a value closer to 1 averages over more steps. In [0, 1); default 0.9.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      initial_scale: Initial value of the second moment; a larger value makes the first updates smaller. Not negative;
        default 0.
      eps_in_sqrt: Whether to add `eps` under the square root, as optax does, instead of adding it to the square root,
        as PyTorch does. Default True.
      bias_correction: Whether to correct both averages for their start at zero. The corrected variance at the first
        step is zero, so the first update is g / sqrt(eps) (or g / eps), which overflows for gradients close to the
        largest number of the dtype. Default False.

    A variance that becomes negative by rounding is replaced by zero.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Graves, 2013, "Generating Sequences With Recurrent Neural Networks".

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_stddev(decay=0.5)
    >>> updates, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> print(updates, state.mu, state.nu)
    [2.] [1.] [2.]
    """

    decay: Hyper = hyper(default=0.9, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    initial_scale: Hyper = hyper(default=0.0, ge=0)
    eps_in_sqrt: bool = flag(default=True)
    bias_correction: bool = flag(default=False)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        return (self.weight("decay", t, numbers), self.weighed(numbers)) if self.bias_correction else (1, numbers)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, leaf.bounded(g), self.decay)  # so that |mu|^2 is at most nu
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.decay)
        variance = jnp.maximum(nu / shared - leaf.abs_sq(mu / shared), 0)
        return _over_root(g, variance, self.eps, self.eps_in_sqrt), slots._replace(mu=mu, nu=nu)


@constructor
def rmsprop(
    learning_rate: HyperArg,
    decay: HyperArg = 0.9,
    eps: HyperArg = 1e-8,
    initial_scale: HyperArg = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: HyperArg | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> chain:
    """Runs RMSProp, which divides the gradient by its recent root mean square.

    Use it when the scale of the gradients changes during training, as in reinforcement learning. By default there is no
    momentum (Tieleman and Hinton, 2012, lecture 6.5):

        v <- decay * v + (1 - decay) * |g|^2
        p <- p - learning_rate * g / sqrt(v + eps)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      decay: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.9.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      initial_scale: Initial value of the second moment; a larger value makes the first updates smaller. Not negative;
        default 0.
      eps_in_sqrt: Whether to add `eps` under the square root, as optax does, instead of adding it to the square root,
        as PyTorch does. Default True.
      centered: Whether to divide by the running standard deviation instead: the square of the gradient's moving average
        is subtracted from the second moment. Needs one more array per parameter. Default False.
      momentum: Decay rate of the momentum, a decaying sum of past updates that is used in place of the current update;
        None disables momentum. In [0, 1].
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      bias_correction: Whether to divide each moving average by the sum of its averaging weights, which is less than 1
        because the average starts at zero. Default False.

    Returns:
      A transformation. State: one array per parameter (4 bytes per entry in float32), one more if `centered`, and one
      more with momentum.

    >>> import gradtx as gx
    >>> gx.rmsprop(0.01)
    chain(scale_by_rms(decay=0.9, eps=1e-08, initial_scale=0.0), scale_by_learning_rate(learning_rate=0.01))
    """
    checks.flag("rmsprop", "nesterov", nesterov)
    rule = scale_by_stddev if checks.flag("rmsprop", "centered", centered) else scale_by_rms
    links: list[Transformation] = [
        rule(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
    ]
    if momentum is not None:
        links.append(trace(trace.check_field("decay", momentum, who="rmsprop", name="momentum"), nesterov))
    return chain(*links)
