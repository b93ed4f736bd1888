"""Steps whose gradient is far longer than the gradients before it are skipped.

With the norm n_t of the gradient, moving averages of the norms' mean m and variance v (corrected for their start at
zero) over the finite norms so far, and a limit

    l = m + deviations * max(sqrt(v), m / 100)

a step is skipped if n_t > l, once there were `warmup` finite norms. The averages see min(n_t, l), so that a single
spike moves them little, and norms that stay large are soon taken for normal.
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

_LEAST_DEVIATION = 0.01  # of the mean: equal norms are no reason to skip one that is a little longer


@reports("skipped", "norm_mean")
class SkipSpikesState(NamedTuple):
    """The steps, mean and variance of the gradient's norm, how many steps were skipped, and the inner state.

    `measured` counts the norms in the averages, which are the finite ones; `weight` is what these weigh in a moving
    average that starts at zero, one minus the product of their decays.
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

    A skipped step has a zero update, and the state of `inner` does not change. Other steps are those of `inner`.

    `deviations` (default 6) is positive, `decay` (0.99) of the averages in [0, 1); the first `warmup` (20) steps with a
    finite norm are always taken. A step whose norm is infinite or NaN is skipped at any time, and counts toward neither
    the averages nor the warm-up.

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
        early = (state.measured < self.warmup) | (state.norm_mean == 0)  # zeros alone say nothing
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
