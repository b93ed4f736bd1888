"""Yogi: a variant of Adam whose second moment changes by a bounded amount at each step.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = v_(t-1) - (1 - b2) * sign(v_(t-1) - |g_t|^2) * |g_t|^2,   at least nu_floor
    u_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t) + eps_root) + eps)

Zaheer, Reddi, Sachan, Kale and Kumar, 2018, "Adaptive Methods for Nonconvex Optimization", algorithm 2, with the same
bias correction as in Adam. As in optax, both moments start at `initial_accumulator_value`.
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
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Slots

__all__ = ["ScaleByYogiState", "scale_by_yogi", "yogi"]


class ScaleByYogiState(NamedTuple):
    """The state of `scale_by_yogi`.

    `count`: the number of steps taken. `mu`, `nu`: the first and second moment, before bias correction. `weights`: for
    each decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the product of the decay
    rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(start="first_mu")
    nu: Array = per_param(start="initial_accumulator_value", real=True, signed=False)
    weights: dict[str, Array] = average_weights()


class scale_by_yogi(Elementwise, state=ScaleByYogiState, corrected=("b1", "b2")):
    """Divides the first moment of the gradient by the square root of Yogi's second moment, which decreases slowly.

    This is `yogi` without the learning rate:

        v <- v - (1 - b2) * sign(v - |g|^2) * |g|^2,    not below nu_floor
        u  = m_hat / (sqrt(v_hat + eps_root) + eps)

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Controls how fast the second moment changes: each step moves it towards the squared gradient by (1 - b2) times
        the squared gradient; with a value closer to 1 it changes more slowly. In [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-3 (as in the paper; larger than
        Adam's).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      initial_accumulator_value: Initial value of both moments; for a complex parameter, the first moment starts at 0.
        Not negative; default 1e-6.
      nu_floor: Lower bound on the second moment, applied before bias correction. Not negative; default 0.

    State: two arrays per parameter (8 bytes per entry in float32).

    Reference: Zaheer, Reddi, Sachan, Kale and Kumar, 2018, "Adaptive Methods for Nonconvex Optimization", algorithm 2.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_yogi(nu_floor=0.01)
    >>> updates, state = tx.update(jnp.array([0.1]), tx.init(jnp.zeros(1)))
    >>> print(state.nu)
    [0.01]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-3, ge=0)
    eps_root: Hyper = hyper(default=0.0, ge=0)
    initial_accumulator_value: Hyper = hyper(default=1e-6, ge=0)
    nu_floor: Hyper = hyper(default=0.0, ge=0, kw_only=True)

    def first_mu(self, p: Array) -> Any:
        # A nonzero start would prefer one direction of the complex plane.
        return 0.0 if jnp.iscomplexobj(p) else self.initial_accumulator_value

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        left, grow_nu = self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(left=left, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        square = leaf.abs_sq(g)
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = slots.nu - leaf.sign(slots.nu - square) * ((1 - self.b2) * square)
        if not leaf.is_number(self.nu_floor) or self.nu_floor > 0:
            nu = leaf.at_least(nu, self.nu_floor)
        root = leaf.root(nu * shared.grow_nu, self.eps_root) + self.eps
        return mu / (root * shared.left), slots._replace(mu=mu, nu=nu)


@constructor
def yogi(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-3,
    *,
    eps_root: HyperArg = 0.0,
    initial_accumulator_value: HyperArg = 1e-6,
    nu_floor: HyperArg = 0.0,
) -> chain:
    """Runs Yogi: a variant of Adam whose second moment forgets large gradients slowly.

    Use it when gradients are sparse or occasionally very large and Adam fails because its second moment forgets such
    gradients too soon. At each step, Yogi's second moment v moves towards |g|^2 by (1 - b2) * |g|^2 (Zaheer, Reddi,
    Sachan, Kale and Kumar, 2018, "Adaptive Methods for Nonconvex Optimization", algorithm 2):

        v <- v - (1 - b2) * sign(v - |g|^2) * |g|^2,    not below nu_floor
        p <- p - learning_rate * m_hat / (sqrt(v_hat + eps_root) + eps)

    where m is the moving average of g, and m_hat and v_hat are m and v after bias correction.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). 1e-2 is a usual first try. Not
        negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Controls how fast the second moment changes: each step moves it towards the squared gradient by (1 - b2) times
        the squared gradient; with a value closer to 1 it changes more slowly. In [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-3 (as in the paper; larger than
        Adam's).
      eps_root: Added to the second moment under the square root; a positive value keeps derivatives of the update
        bounded when you differentiate through training. Not negative; default 0.
      initial_accumulator_value: Initial value of both moments; for a complex parameter, the first moment starts at 0.
        Not negative; default 1e-6.
      nu_floor: Lower bound on the second moment, applied before bias correction. Not negative; default 0.

    Returns:
      A transformation. State: two arrays per parameter (8 bytes per entry in float32).

    >>> import gradtx as gx
    >>> print(gx.yogi(0.01))
    chain(
      scale_by_yogi(b1=0.9, b2=0.999, eps=0.001, eps_root=0.0, initial_accumulator_value=1e-06, nu_floor=0.0),
      scale_by_learning_rate(learning_rate=0.01),
    )
    """
    return chain(
        scale_by_yogi(b1, b2, eps, eps_root, initial_accumulator_value, nu_floor=nu_floor),
        scale_by_learning_rate(learning_rate),
    )
