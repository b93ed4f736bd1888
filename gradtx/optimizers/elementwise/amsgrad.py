"""AMSGrad: a variant of Adam whose second moment never decreases.

    m_t, v_t as in Adam
    w_t = max(w_(t-1), v_t / (1 - b2^t))
    u_t = (m_t / (1 - b1^t)) / (sqrt(w_t + eps_root) + eps)

Reddi, Kale and Kumar, 2018, "On the Convergence of Adam and Beyond", algorithm 2, which has no bias corrections. optax
takes the maximum of the corrected second moment, as above. PyTorch takes the maximum of the uncorrected second moment
and corrects the maximum afterwards: to match PyTorch, pass `correct_after_max=True`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.slots import average_weights, counter, per_param
from gradtx.core.value import dtype, flag
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleByAmsgradState", "amsgrad", "scale_by_amsgrad"]


class ScaleByAmsgradState(NamedTuple):
    """The state of `scale_by_amsgrad`.

    `count`: the number of steps taken. `mu`, `nu`: the first and second moment, before bias correction. `nu_max`: the
    largest second moment so far. `weights`: for each decay rate that is a schedule, the divisor of the bias correction,
    which is 1 minus the product of the decay rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True, signed=False)
    nu_max: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_amsgrad(Elementwise, state=ScaleByAmsgradState, corrected=("b1", "b2")):
    """Divides the first moment of the gradient by the square root of the largest second moment so far.

    This is `amsgrad` without the learning rate:

        u = m_hat / (sqrt(w + eps_root) + eps),    w <- max(w, v_hat)

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
      bias_correction_mu: Whether to correct the first moment for its start at zero. Default True.
      bias_correction_nu: Whether to correct the second moment for its start at zero. Default True.
      correct_after_max: Whether to correct the second moment after taking its maximum, as PyTorch does, instead of
        before, as optax does. Default False.

    State: three arrays per parameter (12 bytes per entry in float32).

    Reference: Reddi, Kale and Kumar, 2018, "On the Convergence of Adam and Beyond", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_amsgrad()
    >>> state = tx.init(jnp.zeros(1))
    >>> for g in (4.0, 0.0):
    ...     updates, state = tx.update(jnp.array([g]), state)
    >>> print(state.nu_max.round(2))
    [16.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    mu_dtype: Any = dtype(default=None)
    bias_correction_mu: bool = flag(default=True)
    bias_correction_nu: bool = flag(default=True)
    correct_after_max: bool = flag(default=False, kw_only=True)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections = self.debias("b1", t, numbers) if self.bias_correction_mu else (1,)
        grow_nu = 1 / self.weight("b2", t, numbers) if self.bias_correction_nu else 1
        return Shared(corrections=corrections, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        before, after = (1, shared.grow_nu) if self.correct_after_max else (shared.grow_nu, 1)
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        nu_max = jnp.maximum(slots.nu_max, nu * before)
        root = leaf.root(nu_max * after, self.eps_root) + self.eps
        return leaf.debiased_ratio(mu, g, root, shared.corrections), slots._replace(mu=mu, nu=nu, nu_max=nu_max)


@constructor
def amsgrad(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    correct_after_max: bool = False,
) -> chain:
    """Runs AMSGrad: a variant of Adam whose second moment never decreases.

    Use it when Adam fails to converge, because Adam's second moment forgets rare large gradients too soon. With Adam's
    moments m and v (Reddi, Kale and Kumar, 2018, "On the Convergence of Adam and Beyond", algorithm 2):

        w <- max(w, v_hat)
        p <- p - learning_rate * m_hat / (sqrt(w + eps_root) + eps)

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
      bias_correction_mu: Whether to correct the first moment for its start at zero. Default True.
      bias_correction_nu: Whether to correct the second moment for its start at zero. Default True.
      correct_after_max: Whether to correct the second moment after taking its maximum, as PyTorch does, instead of
        before, as optax does. Default False.

    Returns:
      A transformation. State: three arrays per parameter (12 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.amsgrad(1e-3).links[0]
    scale_by_amsgrad(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0)
    """
    flags = bias_correction_mu, bias_correction_nu
    rule = scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, *flags, correct_after_max=correct_after_max)
    return chain(rule, scale_by_learning_rate(learning_rate))
