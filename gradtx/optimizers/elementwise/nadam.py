"""NAdam: Adam with Nesterov momentum, and the same with decoupled weight decay.

    u_t = (b1 * m_t / (1 - b1^(t+1)) + (1 - b1) * g_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

with m_t and v_t as in Adam. Dozat, 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2 with
a constant b1, and without its extra factor b2 on v. The rule is `gradtx.scale_by_adam(nesterov=True)`.
"""

from __future__ import annotations

from typing import Any

from gradtx.core.chain import chain
from gradtx.core.hyper import HyperArg
from gradtx.optimizers.elementwise.adam import adam
from gradtx.optimizers.elementwise.adamw import adamw

__all__ = ["nadam", "nadamw"]


def nadam(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> chain:
    """Adam with Nesterov momentum. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> gx.nadam(1e-3) == gx.adam(1e-3, nesterov=True)
    True
    """
    return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)


def nadamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = True,
) -> chain:
    """Adam with Nesterov momentum and decoupled weight decay. State: two arrays per parameter.

    >>> import gradtx as gx
    >>> gx.nadamw(1e-3) == gx.adamw(1e-3, nesterov=True)
    True
    """
    return adamw(learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov)
