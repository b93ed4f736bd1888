"""RMSProp: the gradient divided by the root of its square's moving average.

    v_t = decay * v_(t-1) + (1 - decay) * |g_t|^2,   v_0 = initial_scale
    u_t = g_t / sqrt(v_t + eps)                      (eps_in_sqrt)
    u_t = g_t / (sqrt(v_t) + eps)                    (otherwise)

Tieleman and Hinton, 2012, lecture 6.5. The centered form takes v_t - |m_t|^2 for v_t, with m_t the
moving average of the gradient (Graves, 2013, "Generating Sequences With Recurrent Neural Networks").
With `bias_correction` both averages are divided by 1 - decay^t first.
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

__all__ = ["ScaleByRStdDevState", "ScaleByRmsState", "rmsprop", "scale_by_rms", "scale_by_stddev"]


class ScaleByRmsState(NamedTuple):
    """The steps taken, and the second moment.

    `weights` holds what averages with a scheduled decay weigh.
    """

    nu: Array = per_param(start="initial_scale", real=True, signed=False)
    count: Array = counter()
    weights: dict[str, Array] = average_weights(when="bias_correction")


class ScaleByRStdDevState(NamedTuple):
    """The steps taken, and the first and second moment.

    `weights` holds what averages with a scheduled decay weigh.
    """

    mu: Array = per_param()
    nu: Array = per_param(start="initial_scale", real=True, signed=False)
    count: Array = counter()
    weights: dict[str, Array] = average_weights(when="bias_correction")


def _over_root(g: Array, v: Array, eps: Any, eps_in_sqrt: bool) -> Array:
    return g / (leaf.root(v, eps) if eps_in_sqrt else leaf.root(v) + eps)


class scale_by_rms(Elementwise, state=ScaleByRmsState, corrected=("decay",)):
    """The rule of RMSProp, without the learning rate.

    `decay` lies in [0, 1), `eps` and `initial_scale` are not negative.

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
    """The rule of centered RMSProp: division by the gradient's running standard deviation.

    `decay` lies in [0, 1), `eps` and `initial_scale` are not negative. A variance that rounding
    makes negative counts as zero; with `bias_correction` that of the first gradient is zero, so the
    first update is g / sqrt(eps) (or g / eps), which overflows for gradients near the largest number.

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
        mu = leaf.moment(slots.mu, leaf.bounded(g), self.decay)  # so that |mu|^2 is no more than nu
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
    """RMSProp; with `momentum` in [0, 1], a decaying sum of the scaled steps.

    State: one array per parameter, one more if `centered`, one more with momentum.

    >>> import gradtx as gx
    >>> gx.rmsprop(0.01)
    chain(scale_by_rms(decay=0.9, eps=1e-08, initial_scale=0.0), scale_by_learning_rate(learning_rate=0.01))
    """
    checks.flag("rmsprop", "nesterov", nesterov)
    rule = scale_by_stddev if checks.flag("rmsprop", "centered", centered) else scale_by_rms
    links = [rule(decay, eps, initial_scale, eps_in_sqrt, bias_correction), scale_by_learning_rate(learning_rate)]
    if momentum is not None:
        links.append(trace(trace.check_field("decay", momentum, who="rmsprop", name="momentum"), nesterov))
    return chain(*links)
