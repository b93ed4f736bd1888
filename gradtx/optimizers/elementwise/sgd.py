"""Stochastic gradient descent, with momentum if asked for.

    x_(t+1) = x_t - eta_t * g_t                                 (Robbins and Monro, 1951)
    x_(t+1) = x_t - eta_t * m_t,   m_t = mu * m_(t-1) + g_t     (Polyak, 1964)

The momentum is `gradtx.trace`; its file has the Nesterov form.
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
    """Gradient descent; with `momentum` in [0, 1], a decaying sum of gradients in the gradient's place.

    State: none without momentum, one array per parameter with it.

    >>> import gradtx as gx
    >>> gx.sgd(0.1, momentum=0.9)
    chain(trace(decay=0.9, dampening=0.0), scale_by_learning_rate(learning_rate=0.1))
    """
    rate = scale_by_learning_rate(learning_rate)
    decay = trace.check_field("decay", 0.0 if momentum is None else momentum, who="sgd", name="momentum")
    links = [trace(decay, nesterov, accumulator_dtype, dampening=dampening), rate]
    return chain(*links) if momentum is not None else chain(rate)
