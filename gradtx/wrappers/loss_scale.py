"""Dynamic loss scaling: keeps gradients of 16-bit floats from underflowing.

The loss is multiplied by a scale S before it is differentiated, and the gradients are then divided by S in float32:

    not finite      the step is skipped, S <- max(S * backoff_factor, min_scale)
    finite          the step is taken; after `growth_interval` finite steps in a row,
                    S <- min(S * growth_factor, max_scale)

Micikevicius et al., 2018, "Mixed Precision Training". float16 needs loss scaling; bfloat16 does not, because it has the
range of float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf
from gradtx.core.branch import alike
from gradtx.core.composite import Wrapper
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.metrics import only, reports
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.value import integer
from gradtx.types import Params, State, Updates
from gradtx.wrappers.if_finite import if_finite

__all__ = ["DynamicLossScaleState", "dynamic_loss_scale", "loss_scale"]


@reports("loss_scale", "skipped")
class DynamicLossScaleState(NamedTuple):
    """The scale, the counts of steps, and the inner state.

    `count` counts all steps, `growth_count` the finite steps since the scale last changed, `skipped` the skipped steps.
    """

    count: Array = counter()
    loss_scale: Array = per_tree(start="init_scale", signed=False, dtype=jnp.float32)
    growth_count: Array = counter()
    skipped: Array = counter()
    inner_state: Any = child_state()


class dynamic_loss_scale(Wrapper, state=DynamicLossScaleState):
    """Divides gradients of a scaled loss by the scale, skips steps that are not finite, and adapts the scale.

    Use it to train in float16, where small gradients underflow to zero; bfloat16 does not need it. Convert the loss to
    float32, and multiply it by `loss_scale(state)` before differentiation; `value_and_step` multiplies automatically.
    (A loss in float16 cannot be multiplied by a scale above 2^15.) Put this wrapper outermost, so that all
    transformations inside, including clipping, see the true gradients, in float32 or wider.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      init_scale: Scale of the first step (default 32768 = 2^15). Positive, at most 2^126.
      growth_factor: Factor by which the scale grows after `growth_interval` finite steps in a row (default 2). At least
        1.
      backoff_factor: Factor by which the scale shrinks after a step that is not finite (default 0.5). In (0, 1).
      growth_interval: Number of finite steps in a row after which the scale grows (default 2000). At least 1.
      min_scale: Lower bound on the scale (default 1). Positive.
      max_scale: Upper bound on the scale (default 16777216 = 2^24). Positive, at most 2^126.

    Returns:
      A transformation. State: four numbers (16 bytes), in addition to the inner state.

    References:
      Micikevicius et al., 2018, "Mixed Precision Training".

    Example:
      >>> import jax, jax.numpy as jnp, gradtx as gx
      >>> tx = gx.dynamic_loss_scale(gx.sgd(1.0))
      >>> state = tx.init(jnp.zeros(1))
      >>> loss = lambda w: jnp.sum(w * 1e-7).astype("float16")
      >>> grads = jax.grad(lambda w: loss(w) * gx.loss_scale(state))(jnp.ones(1))
      >>> updates, state = tx.update(grads, state)
      >>> print(updates)
      [-1.e-07]

    Raises:
      ValueError: `min_scale` is greater than `max_scale`.
    """

    init_scale: Hyper = hyper(default=2.0**15, gt=0, le=2.0**126)
    growth_factor: Hyper = hyper(default=2.0, ge=1)
    backoff_factor: Hyper = hyper(default=0.5, gt=0, lt=1)
    growth_interval: int = integer(default=2000, ge=1)
    min_scale: Hyper = hyper(default=1.0, gt=0)
    max_scale: Hyper = hyper(default=2.0**24, gt=0, le=2.0**126)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.ordered("dynamic_loss_scale", min_scale=self.min_scale, max_scale=self.max_scale)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        now = self.at(state.count)
        true = _divided(updates, state.loss_scale)
        given = {name: self._true(name, x, state.loss_scale) for name, x in extra.items()}
        new, inner_state, finite = if_finite(
            "dynamic_loss_scale",
            self.inner,
            true,
            state.inner_state,
            params,
            lambda u, inner_state, p: self.inner_update(u, inner_state, p, given),
        )
        new = alike("dynamic_loss_scale", new, updates)
        steps = jnp.where(finite, counted(state.growth_count), 0)
        grown = steps >= self.growth_interval
        up = jnp.minimum(state.loss_scale * now.growth_factor, now.max_scale)
        down = jnp.maximum(state.loss_scale * now.backoff_factor, now.min_scale)
        scale = jnp.where(finite, jnp.where(grown, up, state.loss_scale), down).astype(jnp.float32)
        skipped = jnp.where(finite, state.skipped, counted(state.skipped))
        return new, DynamicLossScaleState(
            count=counted(state.count),
            loss_scale=scale,
            growth_count=jnp.where(grown, 0, steps),
            skipped=skipped,
            inner_state=inner_state,
        )

    @staticmethod
    def _true(name: str, x: Any, scale: Array) -> Any:
        """Divides an extra argument by the scale if it is a gradient or a function that returns one."""
        if name == "grad":
            return _divided(x, scale)
        return (lambda *args: _divided(x(*args), scale)) if name == "grad_fn" else x


@jax.jit
def _divided(grads: Updates, scale: Array) -> Any:
    return jax.tree.map(lambda g: leaf.widen(jnp.asarray(g)) * (1 / scale), grads)


def loss_scale(state: State) -> Array:
    """Returns the number by which to multiply the loss before it is differentiated.

    Args:
      state: A state that contains exactly one state of `dynamic_loss_scale`, at any depth.

    Returns:
      The scale, a float32 scalar.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> float(gx.loss_scale(gx.dynamic_loss_scale(gx.sgd(0.1)).init(jnp.zeros(1))))
      32768.0

    Raises:
      ValueError: The state contains no state of `dynamic_loss_scale`, or several.
    """
    advice = "Wrap the whole transformation in gx.dynamic_loss_scale(tx)."
    return only("loss_scale", state, DynamicLossScaleState, "parts of a dynamic_loss_scale", advice).loss_scale
