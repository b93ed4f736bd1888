"""Skips steps whose gradient norm is much larger than the norms of the previous gradients.

n_t is the norm of the gradient. m and v are moving averages (with bias correction) of the mean and the variance of the
finite norms so far. The limit is

    l = m + deviations * max(sqrt(v), m / 100)

After the first `warmup` finite norms, a step is skipped if n_t > l. The averages are updated with min(n_t, l), so a
single spike changes them little, while norms that stay large are soon accepted as normal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, tree
from gradtx.core.composite import Wrapper
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.metrics import reports
from gradtx.core.skipping import unless_skipped
from gradtx.core.slots import child_state, counter, per_tree
from gradtx.core.state import counted
from gradtx.core.value import integer
from gradtx.types import Params, State, Updates

__all__ = ["SkipSpikesState", "skip_spikes"]

_LEAST_DEVIATION = 0.01  # times the mean; after nearly equal norms, a slightly larger norm is not a spike


@reports("skipped", "norm_mean")
class SkipSpikesState(NamedTuple):
    """The number of steps, mean and variance of the gradient's norm, the number of skipped steps, and the inner state.

    `measured` counts the finite norms, which are the norms in the averages. `weight` is the bias-correction divisor of
    the averages: one minus the product of the decay rates.
    """

    count: Array = counter()
    norm_mean: Array = per_tree(signed=False)
    norm_variance: Array = per_tree(signed=False)
    skipped: Array = counter()
    inner_state: Any = child_state()
    measured: Array = counter()
    weight: Array = per_tree(signed=False)


class skip_spikes(Wrapper, state=SkipSpikesState):
    """Skips steps whose gradient norm is many standard deviations above its moving average.

    Use it against rare bad batches, whose large gradients would corrupt the moments of an optimizer. A skipped step has
    a zero update, and the inner state does not change. A step whose norm is infinite or NaN is always skipped, and
    counts neither toward the averages nor toward the warm-up. `gx.metrics(state)` reports the number of `skipped` steps
    and the `norm_mean`.

    Args:
      inner: The transformation to wrap, such as `gx.adamw(1e-3)`.
      deviations: A norm is a spike if it is more than this number of standard deviations above the mean (default 6).
        Positive.
      decay: Decay rate of the moving averages of the norm; closer to 1 averages over more steps. In [0, 1); default
        0.99 (about the last 100 steps).
      warmup: Number of steps with a finite norm at the beginning of the run that are never skipped (default 20),
        because the averages are not reliable yet. At least 1.

    Returns:
      A transformation. State: six numbers (24 bytes), in addition to the inner state.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.skip_spikes(gx.sgd(1.0), warmup=2)
      >>> state = tx.init(jnp.zeros(1))
      >>> for g in (1.0, 1.1, 50.0, 0.9):
      ...     updates, state = tx.update(jnp.array([g]), state)
      ...     print(updates)
      [-1.]
      [-1.1]
      [0.]
      [-0.9]
    """

    deviations: Hyper = hyper(default=6.0, gt=0)
    decay: Hyper = hyper(default=0.99, ge=0, lt=1)
    warmup: int = integer(default=20, ge=1)

    def init(self, params: Params) -> SkipSpikesState:
        checks.floating("skip_spikes", "params", params, jax.tree.leaves(params))
        return super().init(params)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        checks.floating("skip_spikes", "updates", updates, jax.tree.leaves(updates))
        now = self.at(state.count)
        dtype = state.norm_mean.dtype
        norm = tree.norm(updates).astype(dtype)
        spread = jnp.maximum(leaf.root(state.norm_variance), state.norm_mean * _LEAST_DEVIATION)
        limit = leaf.saturated((state.norm_mean + now.deviations * spread).astype(dtype))
        early = (state.measured < self.warmup) | (state.norm_mean == 0)  # after zero gradients any norm is allowed
        is_finite = jnp.isfinite(norm)
        taken = is_finite & (early | (norm <= limit))

        seen = jnp.where(early, norm, jnp.minimum(norm, limit))
        weight = leaf.moment(state.weight, jnp.ones_like(state.weight), now.decay).astype(dtype)
        share = jnp.where(is_finite, (1 - now.decay) / weight, 0).astype(dtype)
        seen = jnp.where(is_finite, seen, state.norm_mean)
        mean = state.norm_mean * (1 - share) + seen * share
        variance = (1 - share) * leaf.saturated(state.norm_variance + share * leaf.abs_sq(seen - state.norm_mean))
        new, inner_state = unless_skipped(
            "skip_spikes",
            taken,
            updates,
            state.inner_state,
            lambda u: self.inner_update(u, state.inner_state, params, extra),
        )
        skipped = jnp.where(taken, state.skipped, counted(state.skipped))
        return new, SkipSpikesState(
            count=counted(state.count),
            norm_mean=mean,
            norm_variance=variance,
            skipped=skipped,
            inner_state=inner_state,
            measured=jnp.where(is_finite, counted(state.measured), state.measured),
            weight=jnp.where(is_finite, weight, state.weight),
        )
