"""The module `optax.contrib`."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

import gradtx as gx
from gradtx import WeightDimensionNumbers
from gradtx.compat.optax.groups import in_optax_form
from gradtx.compat.optax.sophia import hutchinson_estimator_diag_hessian as hutchinson_estimator_diag_hessian
from gradtx.compat.optax.sophia import sophia as sophia
from gradtx.compat.optax.spelled import seed_of, spelled
from gradtx.compat.optax.states import COCOBState as COCOBState
from gradtx.compat.optax.states import DAdaptAdamWState as DAdaptAdamWState
from gradtx.compat.optax.states import DifferentiallyPrivateAggregateState as DifferentiallyPrivateAggregateState
from gradtx.compat.optax.states import DoGState as DoGState
from gradtx.compat.optax.states import DoWGState as DoWGState
from gradtx.compat.optax.states import GaLoreState as GaLoreState
from gradtx.compat.optax.states import HutchinsonState as HutchinsonState
from gradtx.compat.optax.states import MadgradState as MadgradState
from gradtx.compat.optax.states import MechanicState as MechanicState
from gradtx.compat.optax.states import MomoAdamState as MomoAdamState
from gradtx.compat.optax.states import MomoState as MomoState
from gradtx.compat.optax.states import MuonState as MuonState
from gradtx.compat.optax.states import NormalizeState as NormalizeState
from gradtx.compat.optax.states import ProdigyState as ProdigyState
from gradtx.compat.optax.states import ReduceLROnPlateauState as ReduceLROnPlateauState
from gradtx.compat.optax.states import SAMState as SAMState
from gradtx.compat.optax.states import ScaleByAdemamixState as ScaleByAdemamixState
from gradtx.compat.optax.states import ScaleBySimplifiedAdEMAMixState as ScaleBySimplifiedAdEMAMixState
from gradtx.compat.optax.states import ScheduleFreeState as ScheduleFreeState
from gradtx.compat.optax.states import SophiaState as SophiaState
from gradtx.compat.optax.states import SplitRealAndImaginaryState as SplitRealAndImaginaryState
from gradtx.compat.optax.wrappers import mechanize as mechanize
from gradtx.compat.optax.wrappers import sam as sam
from gradtx.compat.optax.wrappers import schedule_free as schedule_free
from gradtx.compat.optax.wrappers import schedule_free_adamw as schedule_free_adamw
from gradtx.compat.optax.wrappers import schedule_free_eval_params as schedule_free_eval_params
from gradtx.compat.optax.wrappers import schedule_free_sgd as schedule_free_sgd
from gradtx.core.hyper import HyperArg

GaLoreDimensionNumbers = WeightDimensionNumbers
MuonDimensionNumbers = WeightDimensionNumbers


def _two_axes(params: Any) -> Any:
    """Selects the leaves that optax's `muon` orthogonalizes by default: all leaves with two axes, even embeddings."""
    return jax.tree.map(lambda p: MuonDimensionNumbers() if jnp.ndim(p) == 2 else None, params)


_NO_DECAY: dict[str, Any] = {"default": {"weight_decay": None}, "none": {"weight_decay": 0.0}}

acprop = spelled(gx.acprop)
ademamix = spelled(gx.ademamix)
adopt = spelled(gx.adopt)
cocob = spelled(gx.cocob)
dadapt_adamw = spelled(gx.dadapt_adamw, alone=True)
dog = spelled(gx.dog, **_NO_DECAY)
dowg = spelled(gx.dowg, **_NO_DECAY)
dpsgd = spelled(gx.dpsgd)
galore = spelled(gx.galore)
madgrad = spelled(gx.madgrad)
momo = spelled(gx.momo, alone=True)
momo_adam = spelled(gx.momo_adam, alone=True)
normalize = spelled(gx.normalize)
prodigy = spelled(gx.prodigy, alone=True)
reduce_on_plateau = spelled(gx.reduce_on_plateau)
scale_by_acprop = spelled(gx.scale_by_acprop)
scale_by_ademamix = spelled(gx.scale_by_ademamix)
scale_by_adopt = spelled(gx.scale_by_adopt)
scale_by_cocob = spelled(gx.scale_by_cocob)
scale_by_galore = spelled(gx.scale_by_galore)
scale_by_madgrad = spelled(gx.scale_by_madgrad)
scale_by_muon = spelled(gx.scale_by_muon, default={"ns_coeffs": (3.4445, -4.775, 2.0315), "eps": 1e-8})
scale_by_simplified_ademamix = spelled(gx.scale_by_simplified_ademamix)
simplified_ademamix = spelled(gx.simplified_ademamix)
split_real_and_imaginary = spelled(gx.split_real_and_imaginary)


def _muon(*args: Any, **kwargs: Any) -> Any:
    made = gx.muon(*args, **kwargs)
    return in_optax_form(made)


muon = spelled(
    functools.wraps(gx.muon)(_muon),
    rename={"weight_decay_mask": "mask"},
    default={"eps": 1e-8},
    none={"muon_weight_dimension_numbers": _two_axes},
)


@spelled
def differentially_private_aggregate(
    l2_norm_clip: HyperArg, noise_multiplier: HyperArg, key: Any = None, *, seed: int | None = None
) -> Any:
    """Clips per-example gradients, averages them and adds noise: the gradient of DP-SGD.

    Args:
      l2_norm_clip: Largest Euclidean norm of one example's gradient, over all leaves. Not negative.
      noise_multiplier: Standard deviation of the noise, as a multiple of `l2_norm_clip`. Not negative.
      key: A random key, or a seed, an integer. Seed 0 by default.
      seed: The older name of `key`. Pass only one of the two.

    Returns:
      A transformation. State: a step count and a random key (12 bytes in all).

    Example:
      >>> import gradtx.compat.optax as optax
      >>> optax.contrib.differentially_private_aggregate(1.0, 1.1, key=1).inner.key
      1
    """
    return gx.differentially_private_aggregate(
        l2_norm_clip, noise_multiplier, seed_of("differentially_private_aggregate", key, seed)
    )
