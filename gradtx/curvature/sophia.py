"""Sophia: divides the average gradient by an average Hessian diagonal, and clips every entry.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    u_t = clip((m_t / (1 - b1^t)) / max(gamma * h_(t-1), eps), clip_threshold)
    h_t = b2 * h_(t-1) + (1 - b2) * hessian_diag      at every `update_interval`-th step, else h_(t-1)

Liu et al., 2023, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training", algorithm 3,
with the bias correction of m that optax adds. An estimate of the diagonal is passed to `update` as `hessian_diag`. In
`sophia`, the wrapper `with_hessian_diag` computes this estimate at every `update_interval`-th step.
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
from gradtx.core.value import dtype, integer
from gradtx.curvature.with_hessian_diag import with_hessian_diag
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["SophiaState", "scale_by_sophia", "sophia"]


class SophiaState(NamedTuple):
    """State of Sophia: the first moment (`mu`) and the average Hessian diagonal (`nu`).

    `count` is the number of steps. `weights`: for each decay rate that is a schedule, the divisor of the bias
    correction: 1 minus the product of the decay rates so far. Empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = per_param(real=True)
    weights: dict[str, Array] = average_weights()


class scale_by_sophia(
    Elementwise, state=SophiaState, takes=("hessian_diag",), by_leaf=("hessian_diag",), corrected=("b1",)
):
    """Divides the first moment by the average Hessian diagonal and clips every entry, to build your own chain.

    This is the update of `sophia` before the learning rate and the weight decay; pass the diagonal of the Hessian, a
    tree like the gradients, as `update(..., hessian_diag=h)`. The average of the diagonal is updated at every
    `update_interval`-th step, and only if that call passes `hessian_diag`; at all other steps the average stays as it
    is. Entries whose average curvature is not positive move by `clip_threshold`, unless their first moment is nearly
    zero.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); 0.965 by default.
      b2: Decay rate of the average Hessian diagonal, applied once per estimate (not once per step). In [0, 1); 0.99 by
        default.
      eps: Lower bound on the denominator. Positive; 1e-8 by default.
      gamma: Factor of the average diagonal; a larger factor makes steps smaller, so fewer entries are clipped.
        Positive; 0.01 by default.
      clip_threshold: Largest absolute entry of the update. Positive; 1 by default, infinity for no clipping.
      update_interval: Number of steps between two updates of the average diagonal, beginning with the first step.
        At least 1; 10 by default.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_sophia(b2=0.0, gamma=1.0, update_interval=1)
    >>> g, h = jnp.array([1.0, 8.0]), jnp.array([4.0, 4.0])
    >>> _, state = tx.update(g, tx.init(jnp.zeros(2)), hessian_diag=h)
    >>> updates, _ = tx.update(g, state, hessian_diag=h)
    >>> print(updates.round(2))
    [0.25 1.  ]

    Raises:
      ValueError: the tree structure of `hessian_diag` differs from that of the gradients.
    """

    b1: Hyper = hyper(default=0.965, ge=0, lt=1)
    b2: Hyper = hyper(default=0.99, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, gt=0)
    gamma: Hyper = hyper(default=0.01, gt=0)
    clip_threshold: Hyper = hyper(default=1.0, gt=0, infinite=True)
    update_interval: int = integer(default=10, ge=1)
    mu_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any, **extra: Any) -> tuple[Any, Any]:
        shared = Shared(left=self.weight("b1", t, numbers), now=(t - 1) % self.update_interval == 0)
        return shared, self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, hessian_diag: Any) -> tuple[Array, Any]:
        mu, nu = leaf.moment(slots.mu, g, self.b1), slots.nu
        u = leaf.clip(mu / (jnp.maximum(nu * self.gamma, self.eps) * shared.left), self.clip_threshold)
        if hessian_diag is not None:
            nu = jnp.where(shared.now, leaf.moment(nu, hessian_diag.real, self.b2), nu)
        return u, slots._replace(mu=mu, nu=nu)


@constructor
def sophia(
    learning_rate: HyperArg,
    b1: HyperArg = 0.965,
    b2: HyperArg = 0.99,
    eps: HyperArg = 1e-8,
    weight_decay: HyperArg = 1e-4,
    mask: Mask = None,
    gamma: HyperArg = 0.01,
    clip_threshold: HyperArg = 1.0,
    update_interval: int = 10,
    estimator: str = "hutchinson",
    mu_dtype: Any = None,
    key: int = 0,
) -> chain:
    """Sophia: clipped second-order steps with a Hessian diagonal that is estimated every few steps.

    It was designed for pre-training language models, where curvature differs strongly between parameters. `update`
    needs params and `value_fn`, or `outputs_fn` for the estimator "gauss_newton_bartlett" (Sophia-G, for which the
    paper uses gamma = 0.05 and weight decay 0.2). Parameters must be real.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); 0.965 by default.
      b2: Decay rate of the average Hessian diagonal, applied once per estimate (not once per step). In [0, 1); 0.99 by
        default.
      eps: Lower bound on the denominator. Positive; 1e-8 by default.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; 1e-4 by default.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      gamma: Factor of the average diagonal; a larger factor makes steps smaller, so fewer entries are clipped.
        Positive; 0.01 by default.
      clip_threshold: Largest absolute entry of the update, before the learning rate. Positive; 1 by default,
        infinity for no clipping.
      update_interval: Number of steps between two estimates of the diagonal. Other steps cost no more than Adam's.
        At least 1; 10 by default.
      estimator: "hutchinson" (default) needs `value_fn`, the loss as a function of the parameters.
        "gauss_newton_bartlett" needs `outputs_fn`, the logits as a function of the parameters.
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      key: Seed of the random estimates, an integer; 0 by default.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32), and a random key.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> loss = lambda x: jnp.sum(jnp.array([1.0, 100.0]) * x**2)
    >>> tx, x = gx.sophia(0.1, b1=0.9, b2=0.0, gamma=1.0), jnp.array([3.0, -2.0])
    >>> state, step = tx.init(x), jax.jit(gx.value_and_step(loss, tx))
    >>> for _ in range(100):
    ...     x, state, value = step(x, state)
    >>> print(bool(value < 0.01))
    True

    References:
      Liu et al., 2023, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training".
    """
    rule = scale_by_sophia(b1, b2, eps, gamma, clip_threshold, update_interval, mu_dtype)
    return chain(
        with_hessian_diag(rule, update_interval, estimator, key),
        *decoupled_weight_decay(learning_rate, weight_decay, mask),
    )
