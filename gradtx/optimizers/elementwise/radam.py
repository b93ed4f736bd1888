"""RAdam: a variant of Adam that divides by the second moment only after enough gradients have been averaged.

    rho_t = rho - 2 t b2^t / (1 - b2^t),   rho = 2 / (1 - b2) - 1
    r_t   = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t))
    u_t   = r_t * m'_t / (sqrt(v'_t + eps_root) + eps)   if rho_t >= threshold,   else m'_t

where m'_t and v'_t are Adam's moments after bias correction. Liu et al., 2020, "On the Variance of the Adaptive
Learning Rate and Beyond", algorithm 2. optax adds eps after the bias correction of v_t, as above. PyTorch adds eps
before the correction, r_t * m'_t * sqrt(1 - b2^t) / (sqrt(v_t) + eps); to match PyTorch, pass
`eps_before_correction=True`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Elementwise, Shared
from gradtx.core.value import flag
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["radam", "scale_by_radam"]


class scale_by_radam(Elementwise, state=ScaleByAdamState, corrected=("b1", "b2")):
    """Computes RAdam's update: Adam with an automatic warmup.

    This is `radam` without the learning rate. Until the second moment has averaged enough gradients, the update is only
    the first moment; after that, it is Adam's update times a factor r that rises to 1.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages
        over more steps. In [0, 1); default 0.999 (about the last 1000 steps).
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      threshold: Smallest rho (the effective number of averaged gradients) at which the update is divided by the second
        moment. While rho is at most 4, r is not defined and the update is not divided, whatever the threshold. Default
        5.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      eps_before_correction: Whether to add `eps` to the square root of the second moment before bias correction, as
        PyTorch does, instead of after bias correction, as optax does. Default False.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Liu et al., 2020, "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_radam()
    >>> print(tx.update(jnp.array([3.0]), tx.init(jnp.zeros(1)))[0].round(4))  # not divided yet
    [3.]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    threshold: Hyper = hyper(default=5.0, ge=0)
    nesterov: bool = flag(default=False, kw_only=True)
    eps_before_correction: bool = flag(default=False, kw_only=True)
    mu_dtype: ClassVar[None] = None  # the state is kept in float32 or wider

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        left = self.weight("b2", t, numbers)
        end = 2 / (1 - self.b2) - 1
        rho = end - 2 * t * (1 - left) / left
        rectified = (rho >= self.threshold) & (rho > 4)
        rho, end = jnp.where(rectified, rho, 5), jnp.where(rectified, end, 5)  # placeholders with a real root
        r = jnp.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
        corrections = self.debias("b1", t, numbers, self.nesterov)
        return Shared(corrections=corrections, left=left, rectified=rectified, r=r), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        if self.eps_before_correction:
            root = (leaf.root(nu, self.eps_root) + self.eps) / jnp.sqrt(shared.left)
        else:
            root = leaf.root(nu / shared.left, self.eps_root) + self.eps
        divisor = jnp.where(shared.rectified, root / shared.r, 1)
        return leaf.debiased_ratio(mu, g, divisor, shared.corrections), slots._replace(mu=mu, nu=nu)


@constructor
def radam(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    eps_root: HyperArg = 0.0,
    threshold: HyperArg = 5.0,
    *,
    nesterov: bool = False,
    eps_before_correction: bool = False,
) -> chain:
    """Runs RAdam: Adam with an automatic warmup.

    Use it when you want Adam without choosing a warmup. In the first steps the second moment is unreliable, so the
    update is only the first moment; after that, it is Adam's update times a factor r that rises to 1 (Liu et al., 2020,
    "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2):

        p <- p - learning_rate * m_hat                                            at first
        p <- p - learning_rate * r * m_hat / (sqrt(v_hat + eps_root) + eps)       after that

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
      threshold: Smallest rho (the effective number of averaged gradients) at which the update is divided by the second
        moment. While rho is at most 4, r is not defined and the update is not divided, whatever the threshold. Default
        5.
      nesterov: Whether to use Nesterov momentum, which looks one step ahead by adding the current gradient to the
        momentum once more. Default False.
      eps_before_correction: Whether to add `eps` to the square root of the second moment before bias correction, as
        PyTorch does, instead of after bias correction, as optax does. Default False.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> gx.radam(1e-3).links[0]
    scale_by_radam(b1=0.9, b2=0.999, eps=1e-08, eps_root=0.0, threshold=5.0)
    """
    flags = {"nesterov": nesterov, "eps_before_correction": eps_before_correction}
    return chain(scale_by_radam(b1, b2, eps, eps_root, threshold, **flags), scale_by_learning_rate(learning_rate))
