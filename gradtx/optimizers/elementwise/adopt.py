"""ADOPT: divides the gradient by the square root of the previous second moment, clips the result, and then averages.

    n_t = g_t / max(sqrt(v_(t-1)), eps), clipped to [-c_t, c_t]   with c_t = (t - 1)^(1/4)
    m_t = b1 * m_(t-1) + (1 - b1) * n_t,   m_1 = 0
    v_t = b2 * v_(t-1) + (1 - b2) * |g_t|^2,   v_1 = |g_1|^2
    u_t = m_t

Taniguchi et al., 2024, "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", algorithm 2; the first
update is zero. With `nesterov`, u_t = b1 * m_t + (1 - b1) * n_t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper, of_step
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.value import dtype, flag, function, static
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["adopt", "scale_by_adopt"]


def _fourth_root(count: Any) -> Any:
    return count**0.25


class scale_by_adopt(Elementwise, state=ScaleByAdamState):
    """Divides the gradient by the square root of the previous second moment, clips the result, and averages it.

    This is `adopt` without the learning rate. The first update is zero.

        n = g / max(sqrt(v_previous), eps), clipped to [-c, c]
        u = moving average of n

    Args:
      b1: Decay rate of the moving average of the divided gradients; a value closer to 1 averages over more steps. In
        [0, 1); default 0.9.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.9999 (about the last 10000 steps).
      eps: Lower bound on the divisor. Positive; default 1e-6.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      use_clipping: Whether to clip the divided gradients. Without clipping, a large gradient after zero gradients is
        divided by `eps` only. Default True.
      clip_value_fn: Function that maps the number of previous steps to the clipping bound c; by default the fourth
        root, as in the paper.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Taniguchi et al., 2024, "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate",
    algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adopt(b1=0.5)
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (2.0, 1.0):
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(updates)
    [0.25]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.9999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-6, gt=0)
    mu_dtype: Any = dtype(default=None)
    nesterov: bool = flag(default=False, kw_only=True)
    use_clipping: bool = flag(default=True, kw_only=True)
    clip_value_fn: Any = static(default=_fourth_root, check=function, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        first = t == 1
        b1, b2 = jnp.where(first, 1, self.b1), jnp.where(first, 0, self.b2)
        return Shared(first=first, b1=b1, b2=b2, bound=of_step(self.clip_value_fn, t - 1)), numbers

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        n = g / jnp.where(shared.first, 1, jnp.maximum(leaf.root(slots.nu), self.eps))
        if self.use_clipping:
            n = leaf.clip(n, shared.bound)
        mu = leaf.moment(slots.mu, n, shared.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), shared.b2)
        return leaf.moment(mu, n, shared.b1) if self.nesterov else mu, slots._replace(mu=mu, nu=nu)


@constructor
def adopt(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.9999,
    eps: HyperArg = 1e-6,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Callable[[Any], Any] = _fourth_root,
) -> chain:
    """Runs ADOPT, a variant of Adam with a proof of convergence for every b2.

    Use it in place of Adam when training is unstable or sensitive to b2. Each gradient is divided by the square root of
    v, the second moment of the previous steps, then clipped, and only then averaged (Taniguchi et al., 2024, "ADOPT:
    Modified Adam Can Converge with Any beta2 with the Optimal Rate", algorithm 2):

        n  = g / max(sqrt(v_previous), eps), clipped to [-c, c] with c = (number of previous steps)^(1/4)
        p <- p - learning_rate * (moving average of n)

    The first update is zero, because there is no second moment yet.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the moving average of the divided gradients; a value closer to 1 averages over more steps. In
        [0, 1); default 0.9.
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.9999 (about the last 10000 steps).
      eps: Lower bound on the divisor. Positive; default 1e-6.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      use_clipping: Whether to clip the divided gradients. Without clipping, a large gradient after zero gradients is
        divided by `eps` only. Default True.
      clip_value_fn: Function that maps the number of previous steps to the clipping bound c; by default the fourth
        root, as in the paper.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.adopt(1e-3)
    chain(scale_by_adopt(b1=0.9, b2=0.9999, eps=1e-06), scale_by_learning_rate(learning_rate=0.001))
    """
    rule = scale_by_adopt(
        b1, b2, eps, mu_dtype, nesterov=nesterov, use_clipping=use_clipping, clip_value_fn=clip_value_fn
    )
    return chain(rule, scale_by_learning_rate(learning_rate))
