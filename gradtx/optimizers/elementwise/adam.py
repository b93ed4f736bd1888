"""Adam: divides the moving average of the gradient by the square root of the moving average of the squared gradient.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2
    u_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization", algorithm 1. With `nesterov` the corrected first
moment is replaced by NAdam's, b1 * m_t / (1 - b1^(t+1)) + (1 - b1) * g_t / (1 - b1^t) (Dozat, 2016, "Incorporating
Nesterov Momentum into Adam", algorithm 2, without its extra factor b2 on v).

If a decay rate is a schedule, b^t stands for the product of its values at all steps so far. The same holds for all
optimizers of gradtx that correct an average for its start at zero.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import dtype, flag
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import OptionalDType, Slots

__all__ = ["ScaleByAdamState", "adam", "scale_by_adam"]


class ScaleByAdamState(NamedTuple):
    """The state of `scale_by_adam`.

    `count`: the number of steps taken. `mu`, `nu`: the first and second moment, before bias correction. `weights`: for
    each decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the product of the decay
    rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_adam(Elementwise, state=ScaleByAdamState, corrected=("b1", "b2")):
    """Divides the first moment of the gradient by the square root of its second moment.

    This is `adam` and `adamw` without learning rate and weight decay:

        u = m_hat / (sqrt(v_hat + eps_root) + eps)

    where m and v are moving averages of g and |g|^2, and m_hat and v_hat are these averages corrected for their start
    at zero.

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
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.

    State: two arrays per parameter (8 bytes per entry in float32; the second moment of a complex parameter is real).

    Reference: Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adam()
    >>> updates, state = tx.update(jnp.array([0.5, -2.0]), tx.init(jnp.zeros(2)))
    >>> print(updates.round(4))
    [ 1. -1.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    nesterov: bool = flag(default=False, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections = self.debias("b1", t, numbers, self.nesterov)
        return Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        root = leaf.root(nu * shared.grow_nu, self.eps_root) + self.eps
        return leaf.debiased_ratio(mu, g, root, shared.corrections), slots._replace(mu=mu, nu=nu)

    def largest(self, incoming: float, most: float) -> float:
        """Returns an upper bound on the update; by the Cauchy-Schwarz inequality |mu| <= c * sqrt(nu) if b1^2 < b2.

        The squares in nu are capped at a quarter of the dtype's largest number, hence the factor 2 * sqrt(most).
        """
        b1, b2, rest = self.b1, self.b2, (self.eps, self.eps_root)
        if not (all(map(leaf.is_number, (b1, b2, *rest))) and b1**2 < b2):
            return math.inf
        ratio = (1 - b1) / math.sqrt((1 - b2) * (1 - b1**2 / b2)) / (1 - b1)
        return (ratio + 1 / math.sqrt(1 - b2)) * 2 * math.sqrt(most)


@constructor
def adam(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: OptionalDType = None,
    *,
    nesterov: bool = False,
) -> chain:
    """Runs Adam, a good first choice that needs little tuning.

    Adam adapts the step size of every entry to the size of the entry's gradients. If you want weight decay, use
    `adamw`. With moving averages m of g and v of |g|^2, corrected for their start at zero (Kingma and Ba, 2015, "Adam:
    A Method for Stochastic Optimization", algorithm 1):

        p <- p - learning_rate * m_hat / (sqrt(v_hat + eps_root) + eps)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 1e-3 is a usual first try. Not
        negative.
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
        momentum once more. Default False.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adam(1e-3)
    chain(scale_by_adam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0), scale_by_learning_rate(learning_rate=0.001))
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
