"""Polyak's step size: the loss minus its smallest value, divided by the squared norm of the gradient.

    u = g * min((f - f_min) / (|g|^2 + eps), max_learning_rate),   and u = 0 if g is zero

Polyak, 1987, "Introduction to Optimization", section 5.3. With the bound `max_learning_rate` it is the method SPS of
Loizou et al., 2021, "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for Fast Convergence". The variant
'sps+' replaces a negative f - f_min by zero (Garrigos, Gower and Schaipp, 2023, "Function Value Learning"). If the
value is infinite or NaN, the update is zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from gradtx import leaf, tree
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Shared, Treewide
from gradtx.core.metrics import reports
from gradtx.core.skipping import or_one_more_skipped
from gradtx.core.slots import counter
from gradtx.core.value import choice
from gradtx.optimizers.elementwise.sgd import sgd
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Params, Slots, Updates

__all__ = ["ScaleByPolyakState", "polyak_sgd", "scale_by_polyak"]


@reports("skipped")
class ScaleByPolyakState(NamedTuple):
    """The state of `scale_by_polyak`: the number of steps, and the number of steps whose value was infinite or NaN."""

    count: Array = counter()
    skipped: Array = counter()


class scale_by_polyak(Treewide, state=ScaleByPolyakState, needs=("value",)):
    """Scales the gradient by Polyak's step size.

    This is `polyak_sgd` without the minus sign for descent:

        u = g * min((value - f_min) / (|g|^2 + eps), max_learning_rate)

    A step whose `value` is infinite or NaN is skipped: the update is zero. `gx.metrics(state)` counts such steps as
    `skipped`.

    Args:
      f_min: Smallest possible value of the loss; use 0 for a model that can fit its training data. Any number. Default
        0.
      max_learning_rate: Largest step size; infinity disables the bound. Positive; default 1.
      eps: Added to the squared norm of the gradient for numerical stability. Not negative; default 0.
      variant: Whether a loss below `f_min` gives a negative step size ('sps') or a step size of zero ('sps+'). Default
        'sps'.

    State: none, apart from two counters. `update` needs `value`, the loss at the parameters.

    Reference: Loizou et al., 2021, "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for Fast
    Convergence".

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_polyak(max_learning_rate=10.0)
    >>> g = jnp.array([2.0, 0.0])
    >>> print(tx.update(g, tx.init(g), value=6.0)[0])  # 6 / 4
    [3. 0.]
    """

    f_min: Hyper = hyper(default=0.0)
    max_learning_rate: Hyper = hyper(default=1.0, gt=0, infinite=True)
    eps: Hyper = hyper(default=0.0, ge=0)
    variant: str = choice(default="sps", options=("sps", "sps+"))

    def measure(
        self, updates: Updates, slots: Slots, numbers: Any, params: Params, t: Array, *, value: Any
    ) -> tuple[Any, Any]:
        square = tree.norm_sq(updates)
        value = jnp.asarray(value, square.dtype)
        gap, good = value - self.f_min, jnp.isfinite(value)
        if self.variant == "sps+":
            gap = jnp.maximum(gap, 0)
        step = leaf.ratio(gap, jnp.maximum(square + self.eps, gap / self.max_learning_rate))
        shared = Shared(step=jnp.where(square > 0, step, 0), good=good)
        return shared, or_one_more_skipped(good, numbers, numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any) -> tuple[Array, Any]:
        return jnp.where(shared.good, g * shared.step, 0), slots


@constructor
def polyak_sgd(
    max_learning_rate: HyperArg = 1.0,
    scaling: HyperArg = 1.0,
    f_min: HyperArg = 0.0,
    eps: HyperArg = 0.0,
    variant: str = "sps",
) -> chain:
    """Runs gradient descent with Polyak's step size, which is computed from the loss.

    Use it when you know the smallest possible value of the loss, such as 0 for a model that can fit its training data.
    Call `tx.update(grads, state, value=loss)` (Polyak, 1987, "Introduction to Optimization", section 5.3; Loizou et
    al., 2021, "Stochastic Polyak Step-size for SGD: An Adaptive Learning Rate for Fast Convergence"). With g, the
    gradient multiplied by `scaling`:

        p <- p - g * min((value - f_min) / (|g|^2 + eps), max_learning_rate)

    Args:
      max_learning_rate: Largest step size; infinity disables the bound. Positive; default 1.
      scaling: Factor by which the gradient is multiplied first: a number, or a schedule (a function of the step count).
        Not negative; default 1.
      f_min: Smallest possible value of the loss; use 0 for a model that can fit its training data. Any number. Default
        0.
      eps: Added to the squared norm of the gradient for numerical stability. Not negative; default 0.
      variant: Whether a loss below `f_min` gives a negative step size ('sps') or a step size of zero ('sps+'). Default
        'sps'.

    Returns:
      A transformation whose `update` needs `value`, the loss at the parameters. State: none, apart from counters.

    >>> import gradtx as gx
    >>> gx.polyak_sgd()
    chain(scale_by_learning_rate(learning_rate=1.0), scale_by_polyak(f_min=0.0, max_learning_rate=1.0, eps=0.0))
    """
    scaling = scale_by_learning_rate.check_field("learning_rate", scaling, who="polyak_sgd", name="scaling")
    return chain(*sgd(scaling).links, scale_by_polyak(f_min, max_learning_rate, eps, variant))
