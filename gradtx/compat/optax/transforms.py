"""The module `optax.transforms`: transformations for chains, and wrappers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import gradtx as gx
from gradtx.compat.optax.forms import InForm
from gradtx.compat.optax.groups import freeze as freeze
from gradtx.compat.optax.groups import masked as masked
from gradtx.compat.optax.groups import partition as partition
from gradtx.compat.optax.groups import selective_transform as selective_transform
from gradtx.compat.optax.spelled import REQUIRED, GradientTransformationExtraArgs, lenient, seed_of, spelled, strict
from gradtx.compat.optax.states import AddNoiseState as AddNoiseState
from gradtx.compat.optax.states import ApplyIfFiniteState as ApplyIfFiniteState
from gradtx.compat.optax.states import ConditionallyMaskState as ConditionallyMaskState
from gradtx.compat.optax.states import ConditionallyTransformState as ConditionallyTransformState
from gradtx.compat.optax.states import EmaState as EmaState
from gradtx.compat.optax.states import MaskedNode as MaskedNode
from gradtx.compat.optax.states import MaskedState as MaskedState
from gradtx.compat.optax.states import MonitorState as MonitorState
from gradtx.compat.optax.states import MultiStepsState as MultiStepsState
from gradtx.compat.optax.states import NonNegativeParamsState as NonNegativeParamsState
from gradtx.compat.optax.states import PartitionState as PartitionState
from gradtx.compat.optax.states import SnapshotState as SnapshotState
from gradtx.compat.optax.states import TraceState as TraceState
from gradtx.compat.optax.states import ZeroNansState as ZeroNansState
from gradtx.compat.optax.types import ConditionFn as ConditionFn
from gradtx.compat.optax.types import ShouldSkipUpdateFunction as ShouldSkipUpdateFunction
from gradtx.compat.optax.wrappers import MULTI_STEPS
from gradtx.compat.optax.wrappers import monitor as monitor
from gradtx.core.hyper import HyperArg

adaptive_grad_clip = spelled(gx.adaptive_grad_clip)
add_decayed_weights = spelled(gx.add_decayed_weights)
apply_if_finite = spelled(gx.apply_if_finite, default={"max_consecutive_errors": REQUIRED, "policy": "accept"})
chain = spelled(gx.chain)
clip = spelled(gx.clip)
clip_by_block_rms = spelled(gx.clip_by_block_rms)
clip_by_global_norm = spelled(gx.clip_by_global_norm)
conditionally_mask = spelled(gx.conditionally_mask)
conditionally_transform = spelled(gx.conditionally_transform)
ema = spelled(gx.ema)
flatten = spelled(gx.flatten)
keep_params_nonnegative = spelled(gx.keep_params_nonnegative)
measure_with_ema = spelled(gx.measure_with_ema)
named_chain = spelled(gx.named_chain)
per_example_global_norm_clip = gx.per_example_global_norm_clip
per_example_layer_norm_clip = gx.per_example_layer_norm_clip
skip_not_finite = gx.skip_not_finite
snapshot = spelled(gx.snapshot)
trace = spelled(gx.trace)
unitwise_clip = gx.unitwise_clip
unitwise_norm = gx.unitwise_norm
zero_nans = spelled(gx.zero_nans)


@spelled
def add_noise(eta: HyperArg, gamma: HyperArg, key: Any = None, *, seed: int | None = None) -> Any:
    """Adds normally distributed noise with the variance eta / t^gamma to the updates of step t.

    Args:
      eta: Variance of the noise at the first step. Not negative.
      gamma: How fast the variance decreases; 0 keeps it constant. Not negative.
      key: A random key, or a seed, an integer. Seed 0 by default.
      seed: The older name of `key`. Pass only one of the two.

    Returns:
      A transformation. State: a step count and a random key (12 bytes in all).

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.add_noise(0.01, 0.55, key=1)
      with_extra_args_support(add_noise(eta=0.01, gamma=0.55, key=1))
    """
    return gx.add_noise(eta, gamma, seed_of("add_noise", key, seed))


def skip_large_updates(updates: Any, gradient_step: Any, params: Any, max_squared_norm: Any) -> Any:
    """Skips micro-batches whose gradient is too long: a skip function for `MultiSteps`.

    Args:
      updates: Tree of gradients of the micro-batch.
      gradient_step: Number of steps taken so far; not used.
      params: The parameters; not used.
      max_squared_norm: Smallest squared Euclidean norm, over all leaves, at which a gradient is skipped.

    Returns:
      Whether to skip the micro-batch, and a dict with this boolean and the squared norm.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> print(optax.skip_large_updates(jnp.array([3.0, 4.0]), 0, None, 20.0)[0])
      True
    """
    return gx.skip_large_updates(updates, gradient_step, params, max_squared_norm=max_squared_norm)


class MultiSteps(GradientTransformationExtraArgs):
    """Accumulates gradients: takes one step of `opt` for `every_k_schedule` micro-batches, with their mean gradient.

    `MultiSteps(...)` is itself a transformation, so you need not call `gradient_transformation()`.

    Args:
      opt: The transformation to wrap, such as `optax.adamw(1e-3)`.
      every_k_schedule: Number of micro-batches in a step, at least 1; or a function of the number of steps taken that
        returns it.
      use_grad_mean: True for the mean gradient (default); False for the sum.
      should_skip_update_fn: A function `f(updates, gradient_step, params)` that returns whether to skip this
        micro-batch, and arrays to keep in the state. None by default: no micro-batch is skipped.
      accumulator_dtype: Dtype of the mean (default float32, as in optax); None for gradtx's default, the dtype of the
        parameters, but at least float32.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.MultiSteps(optax.sgd(0.1), every_k_schedule=4).inner.inner.every
      4
    """

    def __init__(
        self,
        opt: Any,
        every_k_schedule: Any,
        use_grad_mean: bool = True,
        should_skip_update_fn: Any = None,
        accumulator_dtype: Any = jnp.float32,
    ) -> None:
        made = gx.accumulate(
            strict(opt),
            every_k_schedule,
            use_grad_mean=use_grad_mean,
            should_skip_update_fn=should_skip_update_fn,
            accumulator_dtype=accumulator_dtype,
        )
        object.__setattr__(self, "inner", InForm(made, MULTI_STEPS))

    @property
    def _accumulate(self) -> Any:
        """The `gx.accumulate` inside, whose state has gradtx's structure."""
        return self.inner.inner

    @property
    def inner_opt(self) -> GradientTransformationExtraArgs:
        """The transformation that steps with the mean."""
        return lenient(self._accumulate.inner)

    def has_updated(self, state: Any) -> Any:
        """Returns whether the last micro-batch made a step.

        Args:
          state: The state that the last `update` returned.
        """
        return self._accumulate.has_updated(MULTI_STEPS.back(state))

    def gradient_transformation(self) -> MultiSteps:
        """Returns the transformation itself."""
        return self
