"""Composable gradient transformations for JAX, as values.

    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(1e-3))
    state = tx.init(params)
    updates, state = tx.update(grads, state, params)
    params = gx.apply_updates(params, updates)

A transformation turns gradients into updates. `gx.describe(tx, params)` shows the memory that its state needs, and
`gx.hyperparameters(tx)` the numbers in it.
"""

# ruff: noqa: I001  (grouped as the documentation groups them)

import jax as _jax  # its modules import each other, so several threads must not be the first to do it

from gradtx.lazy import lazily as _lazily

del _jax

with _lazily(__name__) as _names:
    # Using transformations, and composing them
    from gradtx.core.transformation import GradientTransformation as GradientTransformation
    from gradtx.core.transformation import apply_updates as apply_updates
    from gradtx.core.transformation import hyperparameters as hyperparameters
    from gradtx.core.transformation import identity as identity
    from gradtx.core.transformation import stateless as stateless
    from gradtx.core.state import EmptyState as EmptyState
    from gradtx.core.describe import describe as describe
    from gradtx.core.describe import map_state as map_state
    from gradtx.core.explain import explain as explain
    from gradtx.core.diff import diff as diff
    from gradtx.core.chain import chain as chain
    from gradtx.core.chain import named_chain as named_chain
    from gradtx.core.mask import lookup_by_path as lookup_by_path
    from gradtx.core.partition import partition as partition
    from gradtx.core.metrics import metrics as metrics
    from gradtx import select as select
    from gradtx import types as types

    # Writing new ones
    from gradtx import rules as rules

    # Trees of arrays
    from gradtx import tree as tree
    from gradtx.linalg.matrix_view import WeightDimensionNumbers as WeightDimensionNumbers

    # Slow copies of parameters, and numbers that stay in range
    from gradtx.slow_copies import incremental_update as incremental_update
    from gradtx.slow_copies import periodic_update as periodic_update
    from gradtx.numerics import safe_increment as safe_increment
    from gradtx.numerics import safe_norm as safe_norm
    from gradtx.numerics import safe_root_mean_squares as safe_root_mean_squares
    from gradtx.numerics import scale_gradient as scale_gradient

    # Linear algebra
    from gradtx.linalg.inverse_pth_root import matrix_inverse_pth_root as matrix_inverse_pth_root
    from gradtx.linalg.nnls import nnls as nnls
    from gradtx.linalg.power_iteration import power_iteration as power_iteration

    # Losses
    from gradtx import losses as losses

    # Functions of a batch in parts, and made smooth; assignment problems
    from gradtx import assignment as assignment
    from gradtx import microbatching as microbatching
    from gradtx import perturbations as perturbations

    # The nearest point of a set, and proximal operators
    from gradtx.projections.boxes import projection_box as projection_box
    from gradtx.projections.boxes import projection_hypercube as projection_hypercube
    from gradtx.projections.boxes import projection_linf_ball as projection_linf_ball
    from gradtx.projections.boxes import projection_non_negative as projection_non_negative
    from gradtx.projections.balls import projection_l2_ball as projection_l2_ball
    from gradtx.projections.balls import projection_l2_sphere as projection_l2_sphere
    from gradtx.projections.simplex import projection_l1_ball as projection_l1_ball
    from gradtx.projections.simplex import projection_l1_sphere as projection_l1_sphere
    from gradtx.projections.simplex import projection_simplex as projection_simplex
    from gradtx.projections.affine import projection_halfspace as projection_halfspace
    from gradtx.projections.affine import projection_hyperplane as projection_hyperplane
    from gradtx.projections.affine import projection_vector as projection_vector
    from gradtx.projections.polyhedron import projection_affine_set as projection_affine_set
    from gradtx.projections.polyhedron import projection_polyhedron as projection_polyhedron
    from gradtx.projections.box_section import projection_box_section as projection_box_section
    from gradtx.projections.order import projection_monotone as projection_monotone
    from gradtx.projections.order import projection_ordered_simplex as projection_ordered_simplex
    from gradtx.projections.cones import projection_second_order_cone as projection_second_order_cone
    from gradtx.projections.matrices import projection_nuclear_ball as projection_nuclear_ball
    from gradtx.projections.matrices import projection_psd_cone as projection_psd_cone
    from gradtx.projections.matrices import projection_spectral_ball as projection_spectral_ball
    from gradtx.projections.matrices import projection_stiefel as projection_stiefel
    from gradtx.projections.matrices import prox_nuclear_norm as prox_nuclear_norm
    from gradtx.projections.transport import projection_transport as projection_transport
    from gradtx.projections.transport import sinkhorn as sinkhorn
    from gradtx.projections.dykstra import projection_intersection as projection_intersection
    from gradtx.projections.prox import prox_elastic_net as prox_elastic_net
    from gradtx.projections.prox import prox_group_lasso as prox_group_lasso
    from gradtx.projections.prox import prox_l1 as prox_l1
    from gradtx.projections.prox import prox_l2 as prox_l2
    from gradtx.projections.prox import prox_l2_squared as prox_l2_squared
    from gradtx.projections.prox import prox_log_barrier as prox_log_barrier
    from gradtx.projections.total_variation import prox_total_variation as prox_total_variation

    # Links of a chain
    from gradtx.transforms.clip import clip as clip
    from gradtx.transforms.clip import clip_by_block_rms as clip_by_block_rms
    from gradtx.transforms.clip import clip_by_global_norm as clip_by_global_norm
    from gradtx.transforms.decay import add_decayed_weights as add_decayed_weights
    from gradtx.transforms.decay import decoupled_weight_decay as decoupled_weight_decay
    from gradtx.transforms.momentum import ema as ema
    from gradtx.transforms.momentum import trace as trace
    from gradtx.transforms.scale import scale as scale
    from gradtx.transforms.scale import scale_by_learning_rate as scale_by_learning_rate
    from gradtx.transforms.scale import scale_by_schedule as scale_by_schedule
    from gradtx.transforms.scale import set_to_zero as set_to_zero
    from gradtx.transforms.norms import centralize as centralize
    from gradtx.transforms.norms import normalize as normalize
    from gradtx.transforms.norms import normalize_by_update_norm as normalize_by_update_norm
    from gradtx.transforms.norms import scale_by_param_block_norm as scale_by_param_block_norm
    from gradtx.transforms.norms import scale_by_param_block_rms as scale_by_param_block_rms
    from gradtx.transforms.adaptive_clip import adaptive_grad_clip as adaptive_grad_clip
    from gradtx.transforms.adaptive_clip import unitwise_clip as unitwise_clip
    from gradtx.transforms.adaptive_clip import unitwise_norm as unitwise_norm
    from gradtx.transforms.adagc import clip_by_past_norm as clip_by_past_norm
    from gradtx.transforms.qk_clip import qk_clip as qk_clip
    from gradtx.transforms.grokfast import grokfast as grokfast
    from gradtx.transforms.orthograd import orthograd as orthograd
    from gradtx.transforms.noise import add_noise as add_noise
    from gradtx.transforms.zero_nans import zero_nans as zero_nans
    from gradtx.transforms.on_leaves import stateless_with_tree_map as stateless_with_tree_map
    from gradtx.transforms.apply_every import apply_every as apply_every
    from gradtx.transforms.average_examples import average_per_element_updates as average_per_element_updates
    from gradtx.transforms.privacy import differentially_private_aggregate as differentially_private_aggregate
    from gradtx.transforms.privacy import per_example_global_norm_clip as per_example_global_norm_clip
    from gradtx.transforms.privacy import per_example_layer_norm_clip as per_example_layer_norm_clip
    from gradtx.transforms.shape import scale_by_shape as scale_by_shape
    from gradtx.transforms.width import scale_by_width as scale_by_width
    from gradtx.transforms.monitor import measure_with_ema as measure_with_ema
    from gradtx.transforms.monitor import monitor as monitor
    from gradtx.transforms.monitor import snapshot as snapshot
    from gradtx.transforms.plateau import reduce_on_plateau as reduce_on_plateau
    from gradtx.transforms.project import clip_params as clip_params
    from gradtx.transforms.project import keep_params_nonnegative as keep_params_nonnegative
    from gradtx.transforms.project import project as project

    # Optimizers
    from gradtx.optimizers.elementwise.adadelta import adadelta as adadelta
    from gradtx.optimizers.elementwise.adadelta import scale_by_adadelta as scale_by_adadelta
    from gradtx.optimizers.elementwise.adagrad import adagrad as adagrad
    from gradtx.optimizers.elementwise.adagrad import scale_by_rss as scale_by_rss
    from gradtx.optimizers.elementwise.adam import adam as adam
    from gradtx.optimizers.elementwise.adam import scale_by_adam as scale_by_adam
    from gradtx.optimizers.elementwise.adamw import adamw as adamw
    from gradtx.optimizers.elementwise.asgd import asgd as asgd
    from gradtx.optimizers.elementwise.asgd import scale_by_asgd as scale_by_asgd
    from gradtx.optimizers.elementwise.nadam import nadam as nadam
    from gradtx.optimizers.elementwise.nadam import nadamw as nadamw
    from gradtx.optimizers.elementwise.nadam import scale_by_nadam as scale_by_nadam
    from gradtx.optimizers.elementwise.rmsprop import rmsprop as rmsprop
    from gradtx.optimizers.elementwise.rmsprop import scale_by_rms as scale_by_rms
    from gradtx.optimizers.elementwise.rmsprop import scale_by_stddev as scale_by_stddev
    from gradtx.optimizers.elementwise.sgd import sgd as sgd
    from gradtx.optimizers.elementwise.yogi import scale_by_yogi as scale_by_yogi
    from gradtx.optimizers.elementwise.yogi import yogi as yogi
    from gradtx.optimizers.elementwise.adam_atan2 import adam_atan2 as adam_atan2
    from gradtx.optimizers.elementwise.adam_atan2 import scale_by_adam_atan2 as scale_by_adam_atan2
    from gradtx.optimizers.elementwise.ftrl import ftrl as ftrl
    from gradtx.optimizers.elementwise.laprop import laprop as laprop
    from gradtx.optimizers.elementwise.laprop import scale_by_laprop as scale_by_laprop
    from gradtx.optimizers.layerwise.mars import mars as mars
    from gradtx.optimizers.layerwise.mars import reduce_variance as reduce_variance
    from gradtx.optimizers.layerwise.stable_adamw import scale_by_stable_adamw as scale_by_stable_adamw
    from gradtx.optimizers.layerwise.stable_adamw import stable_adamw as stable_adamw
    from gradtx.optimizers.elementwise.adabelief import adabelief as adabelief
    from gradtx.optimizers.elementwise.adabelief import scale_by_belief as scale_by_belief
    from gradtx.optimizers.elementwise.acprop import acprop as acprop
    from gradtx.optimizers.elementwise.acprop import scale_by_acprop as scale_by_acprop
    from gradtx.optimizers.elementwise.adamax import adamax as adamax
    from gradtx.optimizers.elementwise.adamax import adamaxw as adamaxw
    from gradtx.optimizers.elementwise.adamax import scale_by_adamax as scale_by_adamax
    from gradtx.optimizers.elementwise.adan import adan as adan
    from gradtx.optimizers.elementwise.adan import scale_by_adan as scale_by_adan
    from gradtx.optimizers.elementwise.amsgrad import amsgrad as amsgrad
    from gradtx.optimizers.elementwise.amsgrad import scale_by_amsgrad as scale_by_amsgrad
    from gradtx.optimizers.elementwise.grams import grams as grams
    from gradtx.optimizers.elementwise.grams import scale_by_grams as scale_by_grams
    from gradtx.optimizers.elementwise.lion import lion as lion
    from gradtx.optimizers.elementwise.lion import scale_by_lion as scale_by_lion
    from gradtx.optimizers.elementwise.radam import radam as radam
    from gradtx.optimizers.elementwise.radam import scale_by_radam as scale_by_radam
    from gradtx.optimizers.elementwise.rprop import rprop as rprop
    from gradtx.optimizers.elementwise.rprop import scale_by_rprop as scale_by_rprop
    from gradtx.optimizers.elementwise.sign_sgd import scale_by_sign as scale_by_sign
    from gradtx.optimizers.elementwise.sign_sgd import sign_sgd as sign_sgd
    from gradtx.optimizers.elementwise.sign_sgd import signum as signum
    from gradtx.optimizers.elementwise.ademamix import ademamix as ademamix
    from gradtx.optimizers.elementwise.ademamix import scale_by_ademamix as scale_by_ademamix
    from gradtx.optimizers.elementwise.ademamix import scale_by_simplified_ademamix as scale_by_simplified_ademamix
    from gradtx.optimizers.elementwise.ademamix import simplified_ademamix as simplified_ademamix
    from gradtx.optimizers.elementwise.adopt import adopt as adopt
    from gradtx.optimizers.elementwise.adopt import scale_by_adopt as scale_by_adopt
    from gradtx.optimizers.elementwise.cocob import cocob as cocob
    from gradtx.optimizers.elementwise.cocob import scale_by_cocob as scale_by_cocob
    from gradtx.optimizers.elementwise.madgrad import madgrad as madgrad
    from gradtx.optimizers.elementwise.madgrad import scale_by_madgrad as scale_by_madgrad
    from gradtx.optimizers.elementwise.optimistic import optimistic_adam_v2 as optimistic_adam_v2
    from gradtx.optimizers.elementwise.optimistic import optimistic_gradient_descent as optimistic_gradient_descent
    from gradtx.optimizers.elementwise.optimistic import scale_by_optimistic_gradient as scale_by_optimistic_gradient
    from gradtx.optimizers.layerwise.lars import lars as lars
    from gradtx.optimizers.layerwise.lars import scale_by_trust_ratio as scale_by_trust_ratio
    from gradtx.optimizers.layerwise.lamb import lamb as lamb
    from gradtx.optimizers.layerwise.fromage import fromage as fromage
    from gradtx.optimizers.layerwise.novograd import novograd as novograd
    from gradtx.optimizers.layerwise.novograd import scale_by_novograd as scale_by_novograd
    from gradtx.optimizers.layerwise.sm3 import scale_by_sm3 as scale_by_sm3
    from gradtx.optimizers.layerwise.sm3 import sm3 as sm3
    from gradtx.optimizers.layerwise.adafactor import adafactor as adafactor
    from gradtx.optimizers.layerwise.adafactor import scale_by_factored_rms as scale_by_factored_rms
    from gradtx.optimizers.layerwise.adam_mini import adam_mini as adam_mini
    from gradtx.optimizers.layerwise.adam_mini import adam_mini_labels as adam_mini_labels
    from gradtx.optimizers.layerwise.adam_mini import scale_by_adam_mini as scale_by_adam_mini
    from gradtx.optimizers.layerwise.came import came as came
    from gradtx.optimizers.layerwise.came import scale_by_came as scale_by_came
    from gradtx.optimizers.layerwise.sgd_sai import scale_by_gsnr as scale_by_gsnr
    from gradtx.optimizers.layerwise.sgd_sai import sgd_sai as sgd_sai
    from gradtx.optimizers.treewide.polyak_sgd import polyak_sgd as polyak_sgd
    from gradtx.optimizers.treewide.polyak_sgd import scale_by_polyak as scale_by_polyak
    from gradtx.optimizers.treewide.dog import dog as dog
    from gradtx.optimizers.treewide.dog import dowg as dowg
    from gradtx.optimizers.treewide.dog import scale_by_dog as scale_by_dog
    from gradtx.optimizers.treewide.dog import scale_by_dowg as scale_by_dowg
    from gradtx.optimizers.layerwise.ldog import scale_by_distance_over_gradients as scale_by_distance_over_gradients
    from gradtx.optimizers.treewide.dadapt_adamw import dadapt_adamw as dadapt_adamw
    from gradtx.optimizers.treewide.dadapt_adamw import scale_by_dadapt_adamw as scale_by_dadapt_adamw
    from gradtx.optimizers.treewide.prodigy import prodigy as prodigy
    from gradtx.optimizers.treewide.prodigy import scale_by_prodigy as scale_by_prodigy
    from gradtx.optimizers.treewide.momo import momo as momo
    from gradtx.optimizers.treewide.momo import scale_by_momo as scale_by_momo
    from gradtx.optimizers.treewide.momo_adam import momo_adam as momo_adam
    from gradtx.optimizers.treewide.momo_adam import scale_by_momo_adam as scale_by_momo_adam
    from gradtx.optimizers.treewide.noisy_sgd import noisy_sgd as noisy_sgd
    from gradtx.optimizers.treewide.dpsgd import dpsgd as dpsgd
    from gradtx.optimizers.layerwise.muon import muon as muon
    from gradtx.optimizers.layerwise.muon import scale_by_muon as scale_by_muon
    from gradtx.optimizers.layerwise.normuon import normuon as normuon
    from gradtx.optimizers.layerwise.normuon import scale_by_normuon as scale_by_normuon
    from gradtx.optimizers.layerwise.adamuon import adamuon as adamuon
    from gradtx.optimizers.layerwise.adamuon import scale_by_adamuon as scale_by_adamuon
    from gradtx.optimizers.layerwise.dion import dion as dion
    from gradtx.optimizers.layerwise.dion import scale_by_dion as scale_by_dion
    from gradtx.optimizers.layerwise.scion import scale_by_lmo as scale_by_lmo
    from gradtx.optimizers.layerwise.scion import scion as scion
    from gradtx.optimizers.layerwise.apollo import apollo as apollo
    from gradtx.optimizers.layerwise.apollo import apollo_mini as apollo_mini
    from gradtx.optimizers.layerwise.apollo import scale_by_apollo as scale_by_apollo
    from gradtx.optimizers.layerwise.fira import fira as fira
    from gradtx.optimizers.layerwise.fira import scale_by_fira as scale_by_fira
    from gradtx.optimizers.layerwise.splus import scale_by_splus as scale_by_splus
    from gradtx.optimizers.layerwise.splus import splus as splus
    from gradtx.optimizers.layerwise.matrices_with_adamw import matrices_with_adamw as matrices_with_adamw
    from gradtx.optimizers.layerwise.muon_labels import hidden_matrices as hidden_matrices
    from gradtx.optimizers.layerwise.muon_labels import muon_labels as muon_labels
    from gradtx.optimizers.layerwise.shampoo import scale_by_shampoo as scale_by_shampoo
    from gradtx.optimizers.layerwise.shampoo import shampoo as shampoo
    from gradtx.optimizers.layerwise.merge_axes import merge_axes as merge_axes
    from gradtx.optimizers.layerwise.soap import scale_by_soap as scale_by_soap
    from gradtx.optimizers.layerwise.soap import soap as soap
    from gradtx.optimizers.layerwise.kron import kron as kron
    from gradtx.optimizers.layerwise.kron import scale_by_kron as scale_by_kron
    from gradtx.optimizers.layerwise.galore import galore as galore
    from gradtx.optimizers.layerwise.galore import scale_by_galore as scale_by_galore

    # Curvature
    from gradtx.curvature.linesearch import value_and_grad_from_state as value_and_grad_from_state
    from gradtx.curvature.backtracking import scale_by_backtracking_linesearch as scale_by_backtracking_linesearch
    from gradtx.curvature.zoom import scale_by_zoom_linesearch as scale_by_zoom_linesearch
    from gradtx.curvature.hager_zhang import scale_by_hager_zhang_linesearch as scale_by_hager_zhang_linesearch
    from gradtx.curvature.lbfgs import lbfgs as lbfgs
    from gradtx.curvature.lbfgs import scale_by_lbfgs as scale_by_lbfgs
    from gradtx.curvature.bfgs import bfgs as bfgs
    from gradtx.curvature.bfgs import scale_by_bfgs as scale_by_bfgs
    from gradtx.curvature.bfgs import scale_by_sr1 as scale_by_sr1
    from gradtx.curvature.bfgs import sr1 as sr1
    from gradtx.curvature.lbfgsb import lbfgsb as lbfgsb
    from gradtx.curvature.lbfgsb import scale_by_lbfgsb as scale_by_lbfgsb
    from gradtx.curvature.nonlinear_cg import nonlinear_cg as nonlinear_cg
    from gradtx.curvature.nonlinear_cg import scale_by_nonlinear_cg as scale_by_nonlinear_cg
    from gradtx.curvature.minimize import minimize as minimize
    from gradtx.curvature.result import Result as Result
    from gradtx.curvature.result import Status as Status
    from gradtx.curvature.products import fisher_diag as fisher_diag
    from gradtx.curvature.products import fisher_vp as fisher_vp
    from gradtx.curvature.products import gauss_newton_bartlett_diag as gauss_newton_bartlett_diag
    from gradtx.curvature.products import gauss_newton_vp as gauss_newton_vp
    from gradtx.curvature.products import hessian as hessian
    from gradtx.curvature.products import hessian_diag as hessian_diag
    from gradtx.curvature.products import hutchinson_diag as hutchinson_diag
    from gradtx.curvature.products import hvp as hvp
    from gradtx.curvature.newton import newton as newton
    from gradtx.curvature.newton import scale_by_newton as scale_by_newton
    from gradtx.curvature.newton_cg import newton_cg as newton_cg
    from gradtx.curvature.newton_cg import scale_by_newton_cg as scale_by_newton_cg
    from gradtx.curvature.trust_region import trust_region_newton as trust_region_newton
    from gradtx.curvature.hessian_diag import adahessian as adahessian
    from gradtx.curvature.hessian_diag import scale_by_adahessian as scale_by_adahessian
    from gradtx.curvature.hessian_diag import scale_by_hessian_diag as scale_by_hessian_diag
    from gradtx.curvature.with_hessian_diag import with_hessian_diag as with_hessian_diag
    from gradtx.curvature.sophia import scale_by_sophia as scale_by_sophia
    from gradtx.curvature.sophia import sophia as sophia
    from gradtx.curvature.least_squares import least_squares as least_squares

    # Constraints
    from gradtx.projections.oracles import oracle_box as oracle_box
    from gradtx.projections.oracles import oracle_l1_ball as oracle_l1_ball
    from gradtx.projections.oracles import oracle_l2_ball as oracle_l2_ball
    from gradtx.projections.oracles import oracle_linf_ball as oracle_linf_ball
    from gradtx.projections.oracles import oracle_nuclear_ball as oracle_nuclear_ball
    from gradtx.projections.oracles import oracle_simplex as oracle_simplex
    from gradtx.constraints.proximal import accelerated_proximal_gradient as accelerated_proximal_gradient
    from gradtx.constraints.proximal import proximal as proximal
    from gradtx.constraints.proximal import proximal_gradient as proximal_gradient
    from gradtx.constraints.mirror_descent import mirror_descent as mirror_descent
    from gradtx.constraints.frank_wolfe import frank_wolfe as frank_wolfe
    from gradtx.constraints.riemannian import riemannian as riemannian
    from gradtx.constraints.lagrangian import LagrangianPoint as LagrangianPoint
    from gradtx.constraints.lagrangian import lagrangian as lagrangian
    from gradtx.constraints.lagrangian import primal_dual as primal_dual
    from gradtx.constraints.penalty import penalty as penalty
    from gradtx.constraints.augmented_lagrangian import augmented_lagrangian as augmented_lagrangian
    from gradtx.constraints.result import ConstrainedResult as ConstrainedResult

    # Wrappers
    from gradtx.core.views import SplitRealAndImaginaryArrays as SplitRealAndImaginaryArrays
    from gradtx.core.views import flatten as flatten
    from gradtx.core.views import split_real_and_imaginary as split_real_and_imaginary
    from gradtx.wrappers.groups import freeze as freeze
    from gradtx.wrappers.groups import layerwise_lr_decay as layerwise_lr_decay
    from gradtx.wrappers.groups import mask_labels as mask_labels
    from gradtx.wrappers.groups import masked as masked
    from gradtx.wrappers.groups import scale_by_depth as scale_by_depth
    from gradtx.wrappers.groups import selective_transform as selective_transform
    from gradtx.wrappers.accumulate import accumulate as accumulate
    from gradtx.wrappers.accumulate import skip_large_updates as skip_large_updates
    from gradtx.wrappers.accumulate import skip_not_finite as skip_not_finite
    from gradtx.wrappers.conditional import conditionally_mask as conditionally_mask
    from gradtx.wrappers.conditional import conditionally_transform as conditionally_transform
    from gradtx.wrappers.if_finite import apply_if_finite as apply_if_finite
    from gradtx.wrappers.skip_spikes import skip_spikes as skip_spikes
    from gradtx.wrappers.loss_scale import dynamic_loss_scale as dynamic_loss_scale
    from gradtx.wrappers.loss_scale import loss_scale as loss_scale
    from gradtx.wrappers.average import averaged_params as averaged_params
    from gradtx.wrappers.average import ema_params as ema_params
    from gradtx.wrappers.average import polyak_average as polyak_average
    from gradtx.wrappers.average import swa as swa
    from gradtx.wrappers.average import average_of_params as average_of_params
    from gradtx.wrappers.average import ema_of_params as ema_of_params
    from gradtx.wrappers.lookahead import lookahead as lookahead
    from gradtx.wrappers.lookahead import reset_state_every as reset_state_every
    from gradtx.wrappers.lookahead import scale_by_lookahead as scale_by_lookahead
    from gradtx.wrappers.schedule_free import scale_by_schedule_free as scale_by_schedule_free
    from gradtx.wrappers.schedule_free import schedule_free as schedule_free
    from gradtx.wrappers.schedule_free import schedule_free_adamw as schedule_free_adamw
    from gradtx.wrappers.schedule_free import schedule_free_eval_params as schedule_free_eval_params
    from gradtx.wrappers.schedule_free import schedule_free_sgd as schedule_free_sgd
    from gradtx.wrappers.sam import sam as sam
    from gradtx.wrappers.mechanize import mechanize as mechanize
    from gradtx.wrappers.mechanize import scale_by_mechanic as scale_by_mechanic
    from gradtx.wrappers.cautious import cautious as cautious
    from gradtx.wrappers.cautious import mask_misaligned as mask_misaligned
    from gradtx.wrappers.cautious import with_grad_arg as with_grad_arg
    from gradtx.wrappers.inject_hyperparams import inject_hyperparams as inject_hyperparams
    from gradtx.wrappers.gradient_variance import add_mean_variance_to_opt as add_mean_variance_to_opt
    from gradtx.wrappers.gradient_variance import (
        get_unbiased_mean_and_variance_ema as get_unbiased_mean_and_variance_ema,
    )
    from gradtx.wrappers.with_metrics import with_metrics as with_metrics
    from gradtx.wrappers.value_and_step import value_and_step as value_and_step

    # Storage
    from gradtx.storage.convert import convert_state as convert_state
    from gradtx.storage.rounded import rounded as rounded
    from gradtx.storage.stored import stored as stored
    from gradtx.wrappers.narrow_weights import corrected_weights as corrected_weights
    from gradtx.wrappers.narrow_weights import master_weights as master_weights
    from gradtx.wrappers.narrow_weights import stochastic_weights as stochastic_weights
    from gradtx import storage as storage

    # Checkpoints
    from gradtx.wrappers.restart import restart_schedules as restart_schedules
    from gradtx import checkpoint as checkpoint

    # Schedules
    from gradtx.core.hyper import function_schedule as function_schedule
    from gradtx.schedules.constant import constant_schedule as constant_schedule
    from gradtx.schedules.constant import optimal_constant_rate as optimal_constant_rate
    from gradtx.schedules.cosine import cosine_decay_schedule as cosine_decay_schedule
    from gradtx.schedules.cosine import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
    from gradtx.schedules.cyclic import cyclic_schedule as cyclic_schedule
    from gradtx.schedules.exponential import exponential_decay as exponential_decay
    from gradtx.schedules.exponential import exponential_schedule as exponential_schedule
    from gradtx.schedules.exponential import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule
    from gradtx.schedules.factors import lambda_schedule as lambda_schedule
    from gradtx.schedules.factors import multiplicative_schedule as multiplicative_schedule
    from gradtx.schedules.inverse import inverse_power_schedule as inverse_power_schedule
    from gradtx.schedules.inverse import inverse_sqrt_schedule as inverse_sqrt_schedule
    from gradtx.schedules.join import multiply_schedules as multiply_schedules
    from gradtx.schedules.join import join_schedules as join_schedules
    from gradtx.schedules.onecycle import cosine_onecycle_schedule as cosine_onecycle_schedule
    from gradtx.schedules.onecycle import linear_onecycle_schedule as linear_onecycle_schedule
    from gradtx.schedules.piecewise import piecewise_constant_schedule as piecewise_constant_schedule
    from gradtx.schedules.piecewise import piecewise_interpolate_schedule as piecewise_interpolate_schedule
    from gradtx.schedules.polynomial import linear_schedule as linear_schedule
    from gradtx.schedules.polynomial import polynomial_schedule as polynomial_schedule
    from gradtx.schedules.restarts import cosine_restarts_schedule as cosine_restarts_schedule
    from gradtx.schedules.restarts import cosine_warmup_restarts_schedule as cosine_warmup_restarts_schedule
    from gradtx.schedules.restarts import sgdr_schedule as sgdr_schedule
    from gradtx.schedules.steps import multistep_schedule as multistep_schedule
    from gradtx.schedules.steps import step_schedule as step_schedule
    from gradtx.schedules.warmup import warmup_constant_schedule as warmup_constant_schedule
    from gradtx.schedules.warmup import wsd_schedule as wsd_schedule

    # Where state lies on a mesh of devices
    from gradtx import sharding as sharding

    # Speed
    from gradtx.flags import cpu_flags as cpu_flags

    # Pictures
    from gradtx import viz as viz

    # The laws, for transformations of other authors
    from gradtx import testing as testing

__all__ = [*_names]  # pyright: ignore[reportUnsupportedDunderAll]

__version__ = "0.1.0"
