"""AdaBelief: a variant of Adam whose second moment measures how far the gradient is from its moving average.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    s_t = b2 * s_(t-1) + (1 - b2) * |g_t - m_t|^2 + eps_root
    u_t = (m_t / (1 - b1^t)) / (sqrt(s_t / (1 - b2^t)) + eps)

Zhuang et al., 2020, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", algorithm 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import flag
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleByBeliefState", "adabelief", "scale_by_belief"]


class ScaleByBeliefState(NamedTuple):
    """The state of `scale_by_belief`.

    `count`: the number of steps taken. `mu`: the first moment. `nu`: the moving average of the squared distance between
    the gradient and the first moment. `weights`: for each decay rate that is a schedule, the divisor of the bias
    correction, which is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a
    schedule.
    """

    count: Array = counter()
    mu: Array = per_param()
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_belief(Elementwise, state=ScaleByBeliefState, corrected=("b1", "b2")):
    """Divides the first moment of the gradient by the square root of the gradient's variance around that moment.

    This is `adabelief` without the learning rate:

        u = m_hat / (sqrt(s_hat) + eps),    s: moving average of |g - m|^2

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment, here the moving average of the squared distance between the gradient and its
        average; a value closer to 1 averages over more steps. In [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-16.
      eps_root: Added to the second moment at every step, so that the second moment is never zero. Not negative; default
        1e-16.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Zhuang et al., 2020, "AdaBelief Optimizer", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_belief(b1=0.5)
    >>> updates, state = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
    >>> print(updates.round(3), state.mu)  # the surprise is 2 - 1
    [2.] [1.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-16, ge=0)
    eps_root: Hyper = hyper(default=1e-16, ge=0)
    nesterov: bool = flag(default=False, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections = self.debias("b1", t, numbers, self.nesterov)
        return Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        # The outer sum has two array operands, so XLA computes it only once: see `leaf.at_most`.
        nu = self.b2 * slots.nu + ((1 - self.b2) * leaf.abs_sq(g - mu) + self.eps_root)
        root = leaf.root(nu * shared.grow_nu) + self.eps
        return leaf.debiased_ratio(mu, g, root, shared.corrections), slots._replace(mu=mu, nu=nu)


@constructor
def adabelief(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-16,
    eps_root: HyperArg = 1e-16,
    *,
    nesterov: bool = False,
) -> chain:
    """Runs AdaBelief, like Adam but with larger updates for steady gradients and smaller ones for changing gradients.

    Try it in place of Adam when Adam generalizes worse than SGD, as in image classification. The gradient's first
    moment m is divided by the square root of s, the moving average of |g - m|^2, instead of the moving average of |g|^2
    (Zhuang et al., 2020, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", algorithm 2):

        p <- p - learning_rate * m_hat / (sqrt(s_hat) + eps)

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment, here the moving average of the squared distance between the gradient and its
        average; a value closer to 1 averages over more steps. In [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-16.
      eps_root: Added to the second moment at every step, so that the second moment is never zero. Not negative; default
        1e-16.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adabelief(1e-3).links[0]
    scale_by_belief(b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16)
    """
    rule = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov)
    return chain(rule, scale_by_learning_rate(learning_rate))
