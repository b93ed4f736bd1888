"""Stochastic gradient descent, with optional momentum.

    x_(t+1) = x_t - eta_t * g_t                                 (Robbins and Monro, 1951)
    x_(t+1) = x_t - eta_t * m_t,   m_t = mu * m_(t-1) + g_t     (Polyak, 1964)

Momentum is implemented by `gradtx.trace`; see its docstring for the formula of Nesterov momentum.
"""

from __future__ import annotations

from typing import Any

from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import HyperArg
from gradtx.transforms.momentum import trace
from gradtx.transforms.scale import scale_by_learning_rate

__all__ = ["sgd"]


@constructor
def sgd(
    learning_rate: HyperArg,
    momentum: HyperArg | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
    *,
    dampening: HyperArg = 0.0,
) -> chain:
    """Runs stochastic gradient descent, with optional momentum.

    Use it when you can tune the learning rate and its schedule; with momentum it is the usual choice for convolutional
    networks (Robbins and Monro, 1951; Polyak, 1964):

        m <- momentum * m + g
        p <- p - learning_rate * m

    Without momentum, m is the gradient g.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 0.1 is a usual first try. Not
        negative.
      momentum: Decay rate of the momentum, a decaying sum of past updates that is used in place of the current update;
        None disables momentum. A usual value is 0.9. In [0, 1].
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      accumulator_dtype: Dtype in which the momentum is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      dampening: Fraction by which each gradient is reduced before it is added to the momentum, as in PyTorch; the first
        gradient is not reduced. In [0, 1]; default 0.

    Returns:
      A transformation. State: with momentum, one array per parameter (4 bytes per entry in float32); without momentum,
      none.

    >>> import gradtx as gx
    >>> gx.sgd(0.1, momentum=0.9)
    chain(trace(decay=0.9, dampening=0.0), scale_by_learning_rate(learning_rate=0.1))
    """
    rate = scale_by_learning_rate(learning_rate)
    decay = trace.check_field("decay", 0.0 if momentum is None else momentum, who="sgd", name="momentum")
    links = [trace(decay, nesterov, accumulator_dtype, dampening=dampening), rate]
    return chain(*links) if momentum is not None else chain(rate)
