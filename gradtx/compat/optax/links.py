"""The transformations at the top level of optax that are elements of chains, such as `scale_by_adam` and `clip`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

import gradtx as gx
from gradtx.compat.optax.spelled import spelled
from gradtx.core.hyper import HyperArg

__all__ = [
    "apply_every",
    "centralize",
    "identity",
    "normalize_by_update_norm",
    "scale",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_adan",
    "scale_by_amsgrad",
    "scale_by_backtracking_linesearch",
    "scale_by_belief",
    "scale_by_distance_over_gradients",
    "scale_by_factored_rms",
    "scale_by_lbfgs",
    "scale_by_lion",
    "scale_by_novograd",
    "scale_by_optimistic_gradient",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_polyak",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_sign",
    "scale_by_sm3",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "scale_by_zoom_linesearch",
    "stateless",
    "stateless_with_tree_map",
]

apply_every = spelled(gx.apply_every)
centralize = spelled(gx.centralize)
identity = spelled(gx.identity)
normalize_by_update_norm = spelled(gx.normalize_by_update_norm)
scale = spelled(gx.scale)
scale_by_adadelta = spelled(gx.scale_by_adadelta)
scale_by_adam = spelled(gx.scale_by_adam)
scale_by_adamax = spelled(gx.scale_by_adamax)
scale_by_adan = spelled(gx.scale_by_adan)
scale_by_amsgrad = spelled(gx.scale_by_amsgrad)
scale_by_belief = spelled(gx.scale_by_belief)
scale_by_distance_over_gradients = spelled(gx.scale_by_distance_over_gradients, default={"param_dtype": jnp.float32})
scale_by_factored_rms = spelled(gx.scale_by_factored_rms)
scale_by_lbfgs = spelled(gx.scale_by_lbfgs)
scale_by_lion = spelled(gx.scale_by_lion)
scale_by_novograd = spelled(gx.scale_by_novograd)
scale_by_optimistic_gradient = spelled(gx.scale_by_optimistic_gradient)
scale_by_param_block_norm = spelled(gx.scale_by_param_block_norm)
scale_by_param_block_rms = spelled(gx.scale_by_param_block_rms)
scale_by_polyak = spelled(gx.scale_by_polyak)
scale_by_radam = spelled(gx.scale_by_radam)
scale_by_rms = spelled(gx.scale_by_rms)
scale_by_rss = spelled(gx.scale_by_rss)
scale_by_schedule = spelled(gx.scale_by_schedule)
scale_by_sign = spelled(gx.scale_by_sign)
scale_by_sm3 = spelled(gx.scale_by_sm3)
scale_by_stddev = spelled(gx.scale_by_stddev)
scale_by_trust_ratio = spelled(gx.scale_by_trust_ratio)
scale_by_yogi = spelled(gx.scale_by_yogi)
stateless = spelled(gx.stateless)
stateless_with_tree_map = spelled(gx.stateless_with_tree_map)
scale_by_backtracking_linesearch = spelled(gx.scale_by_backtracking_linesearch, ignore={"verbose": False})
scale_by_zoom_linesearch = spelled(
    gx.scale_by_zoom_linesearch, default={"max_learning_rate": None}, ignore={"verbose": False}
)


@spelled
def scale_by_learning_rate(learning_rate: HyperArg | None = None, *, flip_sign: bool = True) -> Any:
    """Multiplies the updates by minus the learning rate.

    Args:
      learning_rate: Step size, a number or a schedule of the step count. None by default, which leaves the updates
        unchanged, sign included.
      flip_sign: True to include the minus sign, for descent (default). False for ascent.

    Returns:
      A transformation. It keeps no state except a step count.

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.scale_by_learning_rate(None)
      with_extra_args_support(identity())
    """
    return gx.identity() if learning_rate is None else gx.scale_by_learning_rate(learning_rate, flip_sign=flip_sign)
