"""Preconditions by the diagonal of the Hessian, which is passed as the extra argument `hessian_diag`.

    u_t = g_t / max(|h_t|, floor)                                                  scale_by_hessian_diag

    m_t = b1 * m_(t-1) + (1 - b1) * g_t                                            scale_by_adahessian
    v_t = b2 * v_(t-1) + (1 - b2) * h_t^2
    u_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t))^hessian_power + eps)

`scale_by_hessian_diag` is Newton's method with a Hessian whose off-diagonal entries are set to 0 (Becker and LeCun,
1989, "Improving the Convergence of Back-Propagation Learning with Second-Order Methods"). `scale_by_adahessian` is Yao
et al., 2021, "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning", algorithm 1, with decoupled weight
decay as in the authors' code. In the paper, h is Hutchinson's estimate of the diagonal, averaged over blocks such as
the entries of one filter. `hutchinson_diag` computes the estimate; averaging over blocks is left to the caller.
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
from gradtx.core.value import flag
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Mask, Slots

__all__ = ["ScaleByAdaHessianState", "adahessian", "scale_by_adahessian", "scale_by_hessian_diag"]


class scale_by_hessian_diag(Elementwise, needs=("hessian_diag",), by_leaf=("hessian_diag",)):
    """Divides the gradient by the absolute diagonal of the Hessian.

    `update` needs the extra argument `hessian_diag`, a tree like the gradients. To have the diagonal estimated at every
    step, wrap the transformation in `with_hessian_diag`.

    Args:
      floor: Lower bound on the divisor, which keeps steps along flat directions from becoming huge. Positive; 1e-6 by
        default.
      absolute: Whether to divide by the absolute values. True by default. False keeps the sign of negative curvature;
        as in Newton's method, the step then goes uphill in these entries.

    Returns:
      A transformation without state.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_hessian_diag(floor=0.5)
    >>> g, h = jnp.ones(3), jnp.array([4.0, -4.0, 0.0])
    >>> print(tx.update(g, tx.init(g), hessian_diag=h)[0])
    [0.25 0.25 2.  ]

    Raises:
      ValueError: `hessian_diag` is missing, or its tree structure or a shape differs from that of the gradients.
    """

    floor: Hyper = hyper(default=1e-6, gt=0)
    absolute: bool = flag(default=True)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, hessian_diag: Array) -> tuple[Array, Any]:
        divisor = jnp.maximum(jnp.abs(hessian_diag.real), self.floor)
        if not self.absolute:
            divisor = jnp.where(hessian_diag.real < 0, -divisor, divisor)
        return leaf.bounded(g) / divisor, slots


class ScaleByAdaHessianState(NamedTuple):
    """State of AdaHessian: the first moment of the gradient (`mu`) and the second moment of the Hessian's diagonal
    (`nu`).

    `count` is the number of steps. `weights`: for each decay rate that is a schedule, the divisor of the bias
    correction: 1 minus the product of the decay rates so far. Empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param()
    nu: Array = per_param(real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_adahessian(
    Elementwise,
    state=ScaleByAdaHessianState,
    needs=("hessian_diag",),
    by_leaf=("hessian_diag",),
    corrected=("b1", "b2"),
):
    """Divides the first moment by the root mean square of the Hessian's diagonal, to build your own chain.

    This is the update of `adahessian` before the learning rate and the weight decay. `update` needs the extra argument
    `hessian_diag`, a tree like the gradients. To have the diagonal estimated at every step, wrap the transformation in
    `with_hessian_diag`.

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); 0.9 by default.
      b2: Decay rate of the moving average of the squared diagonal; a value closer to 1 averages over more steps. In [0,
        1); 0.999 by default.
      eps: Added to the denominator for numerical stability. Positive; 1e-4 by default.
      hessian_power: Power to which the root mean square is raised: 1 (default) gives Newton steps, 0 gives steps along
        the average gradient. In [0, 1].

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adahessian(eps=1e-8)
    >>> g, h = jnp.array([1.0, 8.0]), jnp.array([4.0, -4.0])
    >>> print(tx.update(g, tx.init(g), hessian_diag=h)[0].round(3))
    [0.25 2.  ]

    Raises:
      ValueError: `hessian_diag` is missing, or its tree structure or a shape differs from that of the gradients.
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-4, gt=0)
    hessian_power: Hyper = hyper(default=1.0, ge=0, le=1)

    def at_step(self, t: Array, numbers: Any, **extra: Any) -> tuple[Any, Any]:
        left_mu, left_nu = self.weight("b1", t, numbers), self.weight("b2", t, numbers)
        return Shared(left_mu=left_mu, left_nu=left_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, hessian_diag: Array) -> tuple[Array, Any]:
        mu = leaf.moment(slots.mu, leaf.bounded(g), self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(hessian_diag.real), self.b2)
        root = leaf.root(nu / shared.left_nu) ** self.hessian_power
        return mu / shared.left_mu / (root + self.eps), slots._replace(mu=mu, nu=nu)


@constructor
def adahessian(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-4,
    hessian_power: HyperArg = 1.0,
    weight_decay: HyperArg = 0.0,
    mask: Mask = None,
) -> chain:
    """AdaHessian: Adam with the Hessian's diagonal in place of the gradient in the second moment.

    `update` needs params and the extra argument `hessian_diag`, a tree like the gradients, for example from
    `hutchinson_diag`. To have the diagonal estimated at every step, which costs about two gradients, wrap the optimizer
    in `with_hessian_diag`.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). The paper's values are large,
        such as 0.15.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); 0.9 by default.
      b2: Decay rate of the moving average of the squared diagonal; a value closer to 1 averages over more steps. In [0,
        1); 0.999 by default.
      eps: Added to the denominator for numerical stability. Positive; 1e-4 by default.
      hessian_power: Power to which the root mean square is raised: 1 (default) gives Newton steps, 0 gives steps along
        the average gradient. In [0, 1].
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; 0 by default.
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes in float32).

    >>> import gradtx as gx
    >>> gx.adahessian(0.15).links[0]
    scale_by_adahessian(b1=0.9, b2=0.999, eps=0.0001, hessian_power=1.0)

    References:
      Yao et al., 2021, "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning".
    """
    return chain(
        scale_by_adahessian(b1, b2, eps, hessian_power), *decoupled_weight_decay(learning_rate, weight_decay, mask)
    )
