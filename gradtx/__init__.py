"""Composable gradient transformations for JAX, as values.

tx             = gx.chain(gx.clip_by_global_norm(1.0), gx.scale_by_yogi(), gx.scale_by_learning_rate(1e-3))
state          = tx.init(params)
updates, state = tx.update(grads, state, params)
params         = gx.apply_updates(params, updates)
"""

# ruff: noqa: I001  (grouped as the documentation groups them)

import importlib
from typing import TYPE_CHECKING, Any

# Using transformations, and composing them
from gradtx.core.transformation import (
    GradientTransformation,
    apply_updates,
    hyperparameters,
    identity,
    stateless,
)
from gradtx.core.chain import chain, named_chain
from gradtx.core.mask import by_path
from gradtx.core.partition import PartitionState, partition
from gradtx.core.report import metrics
from gradtx import select

# Writing new ones: a rule for one leaf, its hyperparameters and its state
from gradtx.core.hyper import Hyper, Schedule, function_schedule, hyper
from gradtx.core.leafwise import EachLeaf, Elementwise, Layerwise, Treewide
from gradtx.core.state import CountState, EmptyState, Like, Once, Reduced
from gradtx.core.value import choice, dtype, flag, integer, static

# Trees of arrays
from gradtx import tree
from gradtx.linalg.matrix_view import WeightDimensionNumbers

# The nearest point of a set, and proximal operators
from gradtx.projections.boxes import (
    projection_box,
    projection_hypercube,
    projection_linf_ball,
    projection_non_negative,
)
from gradtx.projections.balls import projection_l2_ball, projection_l2_sphere
from gradtx.projections.simplex import projection_l1_ball, projection_l1_sphere, projection_simplex
from gradtx.projections.affine import projection_halfspace, projection_hyperplane, projection_vector
from gradtx.projections.polyhedron import projection_affine_set, projection_polyhedron
from gradtx.projections.box_section import projection_box_section
from gradtx.projections.order import projection_monotone, projection_ordered_simplex
from gradtx.projections.cones import projection_second_order_cone
from gradtx.projections.matrices import (
    projection_nuclear_ball,
    projection_psd_cone,
    projection_spectral_ball,
    projection_stiefel,
    prox_nuclear_norm,
)
from gradtx.projections.transport import projection_transport, sinkhorn
from gradtx.projections.dykstra import projection_intersection
from gradtx.projections.prox import (
    prox_elastic_net,
    prox_group_lasso,
    prox_l1,
    prox_l2,
    prox_l2_squared,
    prox_log_barrier,
)
from gradtx.projections.total_variation import prox_total_variation

# Links of a chain
from gradtx.transforms.clip import ClipByGlobalNormState, clip, clip_by_block_rms, clip_by_global_norm
from gradtx.transforms.decay import add_decayed_weights, descend
from gradtx.transforms.momentum import EmaState, TraceState, ema, trace
from gradtx.transforms.scale import scale, scale_by_learning_rate, scale_by_schedule, set_to_zero
from gradtx.transforms.norms import (
    centralize,
    normalize,
    normalize_by_update_norm,
    scale_by_param_block_norm,
    scale_by_param_block_rms,
)
from gradtx.transforms.adaptive_clip import adaptive_grad_clip
from gradtx.transforms.noise import AddNoiseState, add_noise
from gradtx.transforms.zero_nans import ZeroNansState, zero_nans
from gradtx.transforms.apply_every import ApplyEveryState, apply_every
from gradtx.transforms.privacy import (
    DifferentiallyPrivateAggregateState,
    differentially_private_aggregate,
    per_example_global_norm_clip,
    per_example_layer_norm_clip,
)
from gradtx.transforms.shape import scale_by_shape
from gradtx.transforms.monitor import MonitorState, SnapshotState, measure_with_ema, monitor, snapshot
from gradtx.transforms.plateau import ReduceLROnPlateauState, reduce_on_plateau
from gradtx.transforms.project import clip_params, keep_params_nonnegative, project

# Optimizers
from gradtx.optimizers.elementwise.adadelta import ScaleByAdaDeltaState, adadelta, scale_by_adadelta
from gradtx.optimizers.elementwise.adagrad import ScaleByRssState, adagrad, scale_by_rss
from gradtx.optimizers.elementwise.adam import ScaleByAdamState, adam, scale_by_adam
from gradtx.optimizers.elementwise.adamw import adamw
from gradtx.optimizers.elementwise.asgd import ScaleByAsgdState, asgd, scale_by_asgd
from gradtx.optimizers.elementwise.nadam import ScaleByNadamState, nadam, nadamw, scale_by_nadam
from gradtx.optimizers.elementwise.rmsprop import (
    ScaleByRmsState,
    ScaleByRStdDevState,
    rmsprop,
    scale_by_rms,
    scale_by_stddev,
)
from gradtx.optimizers.elementwise.sgd import sgd
from gradtx.optimizers.elementwise.yogi import scale_by_yogi, yogi
from gradtx.optimizers.elementwise.adam_atan2 import adam_atan2, scale_by_adam_atan2
from gradtx.optimizers.elementwise.ftrl import FtrlState, ftrl
from gradtx.optimizers.elementwise.laprop import laprop, scale_by_laprop
from gradtx.optimizers.layerwise.mars import ReduceVarianceState, mars, reduce_variance
from gradtx.optimizers.layerwise.stable_adamw import scale_by_stable_adamw, stable_adamw
from gradtx.optimizers.elementwise.adabelief import ScaleByBeliefState, adabelief, scale_by_belief
from gradtx.optimizers.elementwise.acprop import acprop, scale_by_acprop
from gradtx.optimizers.elementwise.adamax import adamax, adamaxw, scale_by_adamax
from gradtx.optimizers.elementwise.adan import ScaleByAdanState, adan, scale_by_adan
from gradtx.optimizers.elementwise.amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from gradtx.optimizers.elementwise.lion import ScaleByLionState, lion, scale_by_lion
from gradtx.optimizers.elementwise.radam import radam, scale_by_radam
from gradtx.optimizers.elementwise.rprop import ScaleByRpropState, rprop, scale_by_rprop
from gradtx.optimizers.elementwise.sign_sgd import scale_by_sign, sign_sgd, signum
from gradtx.optimizers.elementwise.ademamix import (
    ScaleByAdemamixState,
    ScaleBySimplifiedAdEMAMixState,
    ademamix,
    scale_by_ademamix,
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from gradtx.optimizers.elementwise.adopt import adopt, scale_by_adopt
from gradtx.optimizers.elementwise.cocob import COCOBState, cocob, scale_by_cocob
from gradtx.optimizers.elementwise.madgrad import MadgradState, madgrad, scale_by_madgrad
from gradtx.optimizers.elementwise.optimistic import (
    ScaleByOptimisticGradientState,
    optimistic_adam_v2,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from gradtx.optimizers.layerwise.lars import lars, scale_by_trust_ratio
from gradtx.optimizers.layerwise.lamb import lamb
from gradtx.optimizers.layerwise.fromage import fromage
from gradtx.optimizers.layerwise.novograd import ScaleByNovogradState, novograd, scale_by_novograd
from gradtx.optimizers.layerwise.sm3 import ScaleBySM3State, scale_by_sm3, sm3
from gradtx.optimizers.layerwise.adafactor import FactoredState, adafactor, scale_by_factored_rms
from gradtx.optimizers.treewide.polyak_sgd import polyak_sgd, scale_by_polyak
from gradtx.optimizers.treewide.dog import DoGState, DoWGState, dog, dowg, scale_by_dog, scale_by_dowg
from gradtx.optimizers.layerwise.ldog import ScaleByDistanceOverGradientsState, scale_by_distance_over_gradients
from gradtx.optimizers.treewide.dadapt_adamw import DAdaptAdamWState, dadapt_adamw, scale_by_dadapt_adamw
from gradtx.optimizers.treewide.prodigy import ProdigyState, prodigy, scale_by_prodigy
from gradtx.optimizers.treewide.momo import MomoState, momo, scale_by_momo
from gradtx.optimizers.treewide.momo_adam import MomoAdamState, momo_adam, scale_by_momo_adam
from gradtx.optimizers.treewide.noisy_sgd import noisy_sgd
from gradtx.optimizers.treewide.dpsgd import dpsgd
from gradtx.optimizers.layerwise.muon import MuonState, muon, scale_by_muon
from gradtx.optimizers.layerwise.muon_labels import hidden_matrices, muon_labels
from gradtx.optimizers.layerwise.galore import GaLoreState, galore, scale_by_galore

# Curvature
from gradtx.curvature.linesearch import LinesearchInfo, LinesearchState, value_and_grad_from_state
from gradtx.curvature.backtracking import scale_by_backtracking_linesearch
from gradtx.curvature.zoom import scale_by_zoom_linesearch
from gradtx.curvature.hager_zhang import scale_by_hager_zhang_linesearch
from gradtx.curvature.lbfgs import ScaleByLBFGSState, lbfgs, scale_by_lbfgs
from gradtx.curvature.bfgs import BFGSState, bfgs, scale_by_bfgs, scale_by_sr1, sr1
from gradtx.curvature.lbfgsb import LBFGSBState, lbfgsb, step_in_box
from gradtx.curvature.nonlinear_cg import NonlinearCGState, nonlinear_cg, scale_by_nonlinear_cg
from gradtx.curvature.minimize import minimize
from gradtx.curvature.result import Result, Status
from gradtx.curvature.products import (
    fisher_vp,
    gauss_newton_bartlett_diag,
    gauss_newton_vp,
    hessian,
    hessian_diag,
    hutchinson_diag,
    hvp,
)
from gradtx.curvature.newton import ScaleByNewtonState, newton, scale_by_newton
from gradtx.curvature.newton_cg import ScaleByNewtonCGState, newton_cg, scale_by_newton_cg
from gradtx.curvature.trust_region import TrustRegionState, trust_region_newton
from gradtx.curvature.hessian_diag import ScaleByAdaHessianState, adahessian, scale_by_adahessian, scale_by_hessian_diag
from gradtx.curvature.with_hessian_diag import WithHessianDiagState, with_hessian_diag
from gradtx.curvature.sophia import SophiaState, scale_by_sophia, sophia
from gradtx.curvature.least_squares import least_squares

# Constraints
from gradtx.projections.oracles import (
    oracle_box,
    oracle_l1_ball,
    oracle_l2_ball,
    oracle_linf_ball,
    oracle_nuclear_ball,
    oracle_simplex,
)
from gradtx.constraints.proximal import (
    AcceleratedProximalState,
    accelerated_proximal_gradient,
    proximal,
    proximal_gradient,
)
from gradtx.constraints.mirror_descent import mirror_descent
from gradtx.constraints.frank_wolfe import frank_wolfe
from gradtx.constraints.riemannian import riemannian
from gradtx.constraints.lagrangian import LagrangianPoint, PrimalDualState, lagrangian, primal_dual
from gradtx.constraints.penalty import penalty
from gradtx.constraints.augmented_lagrangian import augmented_lagrangian
from gradtx.constraints.result import ConstrainedResult

# Wrappers
from gradtx.core.layout import SplitRealAndImaginaryArrays, flatten, split_real_and_imaginary, with_extra_args_support
from gradtx.wrappers.groups import (
    freeze,
    layerwise_lr_decay,
    mask_labels,
    masked,
    multi_transform,
    scale_by_depth,
    selective_transform,
)
from gradtx.wrappers.accumulate import MultiSteps, MultiStepsState, accumulate, skip_large_updates, skip_not_finite
from gradtx.wrappers.conditional import ConditionallyTransformState, conditionally_mask, conditionally_transform
from gradtx.wrappers.if_finite import ApplyIfFiniteState, apply_if_finite
from gradtx.wrappers.skip_spikes import SkipSpikesState, skip_spikes
from gradtx.wrappers.loss_scale import DynamicLossScaleState, dynamic_loss_scale, loss_scale
from gradtx.wrappers.average import (
    AverageState,
    averaged_params,
    ema_params,
    polyak_average,
    swa,
    track_average,
    track_ema,
)
from gradtx.wrappers.lookahead import LookaheadState, ResetEveryState, lookahead, reset_every, sync_slow_weights
from gradtx.wrappers.schedule_free import (
    ScheduleFreeState,
    average_base_steps,
    schedule_free,
    schedule_free_adamw,
    schedule_free_eval_params,
    schedule_free_sgd,
)
from gradtx.wrappers.sam import SAMState, sam
from gradtx.wrappers.mechanize import MechanicState, mechanize, scale_by_mechanic
from gradtx.wrappers.with_grad import cautious, keep_aligned, with_grad
from gradtx.wrappers.inject_hyperparams import InjectHyperparamsState, inject_hyperparams
from gradtx.wrappers.with_metrics import MetricsState, with_metrics
from gradtx.wrappers.value_and_step import value_and_step

# Schedules
from gradtx.schedules.constant import constant_schedule, optimal_constant_rate
from gradtx.schedules.cosine import cosine_decay_schedule, warmup_cosine_decay_schedule
from gradtx.schedules.cyclic import cyclic_schedule
from gradtx.schedules.exponential import exponential_decay, exponential_schedule, warmup_exponential_decay_schedule
from gradtx.schedules.factors import lambda_schedule, multiplicative_schedule
from gradtx.schedules.inverse import inverse_power_schedule, inverse_sqrt_schedule
from gradtx.schedules.join import chain_schedules, join_schedules
from gradtx.schedules.onecycle import cosine_onecycle_schedule, linear_onecycle_schedule
from gradtx.schedules.piecewise import piecewise_constant_schedule, piecewise_interpolate_schedule
from gradtx.schedules.polynomial import linear_schedule, polynomial_schedule
from gradtx.schedules.restarts import cosine_restarts_schedule, cosine_warmup_restarts_schedule, sgdr_schedule
from gradtx.schedules.steps import multistep_schedule, step_schedule
from gradtx.schedules.warmup import warmup_constant_schedule, wsd_schedule

# Pictures
from gradtx import viz

# The contract, for transformations of other authors. Imported when it is first used: training needs no laws.
if TYPE_CHECKING:
    from gradtx import testing

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "testing":
        return importlib.import_module("gradtx.testing")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    # Using transformations, and composing them
    "EmptyState",
    "GradientTransformation",
    "apply_updates",
    "hyperparameters",
    "identity",
    "stateless",
    "chain",
    "named_chain",
    "by_path",
    "PartitionState",
    "partition",
    "metrics",
    "select",
    # Writing new ones: a rule for one leaf, its hyperparameters and its state
    "Hyper",
    "Schedule",
    "function_schedule",
    "hyper",
    "CountState",
    "EachLeaf",
    "Elementwise",
    "Layerwise",
    "Like",
    "Once",
    "Reduced",
    "Treewide",
    "choice",
    "dtype",
    "flag",
    "integer",
    "static",
    # Trees of arrays
    "tree",
    "WeightDimensionNumbers",
    # The nearest point of a set, and proximal operators
    "projection_box",
    "projection_hypercube",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_simplex",
    "projection_halfspace",
    "projection_hyperplane",
    "projection_vector",
    "projection_affine_set",
    "projection_polyhedron",
    "projection_box_section",
    "projection_monotone",
    "projection_ordered_simplex",
    "projection_second_order_cone",
    "projection_nuclear_ball",
    "projection_psd_cone",
    "projection_spectral_ball",
    "projection_stiefel",
    "prox_nuclear_norm",
    "projection_transport",
    "sinkhorn",
    "projection_intersection",
    "prox_elastic_net",
    "prox_group_lasso",
    "prox_l1",
    "prox_l2",
    "prox_l2_squared",
    "prox_log_barrier",
    "prox_total_variation",
    # Links of a chain
    "ClipByGlobalNormState",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "add_decayed_weights",
    "EmaState",
    "TraceState",
    "ema",
    "trace",
    "scale",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "set_to_zero",
    "descend",
    "centralize",
    "normalize",
    "normalize_by_update_norm",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "adaptive_grad_clip",
    "AddNoiseState",
    "add_noise",
    "ZeroNansState",
    "zero_nans",
    "ApplyEveryState",
    "apply_every",
    "DifferentiallyPrivateAggregateState",
    "differentially_private_aggregate",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "scale_by_shape",
    "MonitorState",
    "SnapshotState",
    "measure_with_ema",
    "monitor",
    "snapshot",
    "ReduceLROnPlateauState",
    "reduce_on_plateau",
    "clip_params",
    "keep_params_nonnegative",
    "project",
    # Optimizers
    "ScaleByAdaDeltaState",
    "adadelta",
    "scale_by_adadelta",
    "ScaleByRssState",
    "adagrad",
    "scale_by_rss",
    "ScaleByAdamState",
    "adam",
    "scale_by_adam",
    "adamw",
    "ScaleByAsgdState",
    "asgd",
    "scale_by_asgd",
    "ScaleByNadamState",
    "nadam",
    "nadamw",
    "scale_by_nadam",
    "ScaleByRmsState",
    "ScaleByRStdDevState",
    "rmsprop",
    "scale_by_rms",
    "scale_by_stddev",
    "sgd",
    "scale_by_yogi",
    "yogi",
    "adam_atan2",
    "scale_by_adam_atan2",
    "FtrlState",
    "ftrl",
    "laprop",
    "scale_by_laprop",
    "ReduceVarianceState",
    "mars",
    "reduce_variance",
    "scale_by_stable_adamw",
    "stable_adamw",
    "ScaleByBeliefState",
    "adabelief",
    "scale_by_belief",
    "acprop",
    "scale_by_acprop",
    "adamax",
    "adamaxw",
    "scale_by_adamax",
    "ScaleByAdanState",
    "adan",
    "scale_by_adan",
    "ScaleByAmsgradState",
    "amsgrad",
    "scale_by_amsgrad",
    "ScaleByLionState",
    "lion",
    "scale_by_lion",
    "radam",
    "scale_by_radam",
    "ScaleByRpropState",
    "rprop",
    "scale_by_rprop",
    "scale_by_sign",
    "sign_sgd",
    "signum",
    "ScaleByAdemamixState",
    "ScaleBySimplifiedAdEMAMixState",
    "ademamix",
    "scale_by_ademamix",
    "scale_by_simplified_ademamix",
    "simplified_ademamix",
    "adopt",
    "scale_by_adopt",
    "COCOBState",
    "cocob",
    "scale_by_cocob",
    "MadgradState",
    "madgrad",
    "scale_by_madgrad",
    "ScaleByOptimisticGradientState",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "scale_by_optimistic_gradient",
    "lars",
    "scale_by_trust_ratio",
    "lamb",
    "fromage",
    "ScaleByNovogradState",
    "novograd",
    "scale_by_novograd",
    "ScaleBySM3State",
    "scale_by_sm3",
    "sm3",
    "FactoredState",
    "adafactor",
    "scale_by_factored_rms",
    "polyak_sgd",
    "scale_by_polyak",
    "DoGState",
    "DoWGState",
    "dog",
    "dowg",
    "scale_by_dog",
    "scale_by_dowg",
    "ScaleByDistanceOverGradientsState",
    "scale_by_distance_over_gradients",
    "DAdaptAdamWState",
    "dadapt_adamw",
    "scale_by_dadapt_adamw",
    "ProdigyState",
    "prodigy",
    "scale_by_prodigy",
    "MomoState",
    "momo",
    "scale_by_momo",
    "MomoAdamState",
    "momo_adam",
    "scale_by_momo_adam",
    "noisy_sgd",
    "dpsgd",
    "MuonState",
    "muon",
    "scale_by_muon",
    "hidden_matrices",
    "muon_labels",
    "GaLoreState",
    "galore",
    "scale_by_galore",
    # Curvature
    "LinesearchInfo",
    "LinesearchState",
    "value_and_grad_from_state",
    "scale_by_backtracking_linesearch",
    "scale_by_zoom_linesearch",
    "scale_by_hager_zhang_linesearch",
    "ScaleByLBFGSState",
    "lbfgs",
    "scale_by_lbfgs",
    "LBFGSBState",
    "lbfgsb",
    "step_in_box",
    "BFGSState",
    "bfgs",
    "scale_by_bfgs",
    "scale_by_sr1",
    "sr1",
    "NonlinearCGState",
    "nonlinear_cg",
    "scale_by_nonlinear_cg",
    "minimize",
    "Result",
    "Status",
    "fisher_vp",
    "gauss_newton_bartlett_diag",
    "gauss_newton_vp",
    "hessian",
    "hessian_diag",
    "hutchinson_diag",
    "hvp",
    "ScaleByNewtonState",
    "newton",
    "scale_by_newton",
    "ScaleByNewtonCGState",
    "newton_cg",
    "scale_by_newton_cg",
    "TrustRegionState",
    "trust_region_newton",
    "ScaleByAdaHessianState",
    "adahessian",
    "scale_by_adahessian",
    "scale_by_hessian_diag",
    "WithHessianDiagState",
    "with_hessian_diag",
    "SophiaState",
    "scale_by_sophia",
    "sophia",
    "least_squares",
    # Constraints
    "oracle_box",
    "oracle_l1_ball",
    "oracle_l2_ball",
    "oracle_linf_ball",
    "oracle_nuclear_ball",
    "oracle_simplex",
    "AcceleratedProximalState",
    "accelerated_proximal_gradient",
    "proximal",
    "proximal_gradient",
    "mirror_descent",
    "frank_wolfe",
    "riemannian",
    "LagrangianPoint",
    "PrimalDualState",
    "lagrangian",
    "primal_dual",
    "penalty",
    "augmented_lagrangian",
    "ConstrainedResult",
    # Wrappers
    "SplitRealAndImaginaryArrays",
    "flatten",
    "split_real_and_imaginary",
    "with_extra_args_support",
    "freeze",
    "layerwise_lr_decay",
    "mask_labels",
    "masked",
    "multi_transform",
    "scale_by_depth",
    "selective_transform",
    "MultiSteps",
    "MultiStepsState",
    "accumulate",
    "skip_large_updates",
    "skip_not_finite",
    "ConditionallyTransformState",
    "conditionally_mask",
    "conditionally_transform",
    "ApplyIfFiniteState",
    "apply_if_finite",
    "SkipSpikesState",
    "skip_spikes",
    "DynamicLossScaleState",
    "dynamic_loss_scale",
    "loss_scale",
    "AverageState",
    "averaged_params",
    "ema_params",
    "polyak_average",
    "swa",
    "track_average",
    "track_ema",
    "LookaheadState",
    "ResetEveryState",
    "lookahead",
    "reset_every",
    "sync_slow_weights",
    "ScheduleFreeState",
    "average_base_steps",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "SAMState",
    "sam",
    "MechanicState",
    "mechanize",
    "scale_by_mechanic",
    "cautious",
    "keep_aligned",
    "with_grad",
    "InjectHyperparamsState",
    "inject_hyperparams",
    "MetricsState",
    "with_metrics",
    "value_and_step",
    # Schedules
    "constant_schedule",
    "optimal_constant_rate",
    "cosine_decay_schedule",
    "warmup_cosine_decay_schedule",
    "cyclic_schedule",
    "exponential_decay",
    "exponential_schedule",
    "warmup_exponential_decay_schedule",
    "lambda_schedule",
    "multiplicative_schedule",
    "inverse_power_schedule",
    "inverse_sqrt_schedule",
    "chain_schedules",
    "join_schedules",
    "cosine_onecycle_schedule",
    "linear_onecycle_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "linear_schedule",
    "polynomial_schedule",
    "cosine_restarts_schedule",
    "cosine_warmup_restarts_schedule",
    "sgdr_schedule",
    "multistep_schedule",
    "step_schedule",
    "warmup_constant_schedule",
    "wsd_schedule",
    # Pictures
    "viz",
    # The contract, for transformations of other authors
    "testing",
]
