"""The classes of states under optax's names.

Most of them are gradtx's classes, whose first fields are the fields of optax, in the same order. A transformation that
has no memory in optax has a `CountState` in gradtx, which counts the steps so that hyperparameters may be schedules.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gradtx.compat.optax.forms import MechanicState as MechanicState
from gradtx.compat.optax.forms import MultiStepsState as MultiStepsState
from gradtx.compat.optax.forms import SAMState as SAMState
from gradtx.compat.optax.forms import ScheduleFreeState as ScheduleFreeState
from gradtx.compat.optax.groups import MaskedNode as MaskedNode
from gradtx.compat.optax.groups import MaskedState as MaskedState
from gradtx.compat.optax.sophia import HutchinsonState as HutchinsonState
from gradtx.compat.optax.sophia import SophiaState as SophiaState
from gradtx.compat.optax.wrappers import LookaheadParams as LookaheadParams
from gradtx.compat.optax.wrappers import LookaheadState as LookaheadState
from gradtx.core.partition import PartitionState as PartitionState
from gradtx.core.state import CountState, EmptyState
from gradtx.curvature.lbfgs import ScaleByLBFGSState as ScaleByLBFGSState
from gradtx.curvature.linesearch import LinesearchInfo, LinesearchState
from gradtx.optimizers.elementwise.adabelief import ScaleByBeliefState as ScaleByBeliefState
from gradtx.optimizers.elementwise.adadelta import ScaleByAdaDeltaState as ScaleByAdaDeltaState
from gradtx.optimizers.elementwise.adagrad import ScaleByRssState as ScaleByRssState
from gradtx.optimizers.elementwise.adam import ScaleByAdamState as ScaleByAdamState
from gradtx.optimizers.elementwise.adan import ScaleByAdanState as ScaleByAdanState
from gradtx.optimizers.elementwise.ademamix import ScaleByAdemamixState as ScaleByAdemamixState
from gradtx.optimizers.elementwise.ademamix import ScaleBySimplifiedAdEMAMixState as ScaleBySimplifiedAdEMAMixState
from gradtx.optimizers.elementwise.amsgrad import ScaleByAmsgradState as ScaleByAmsgradState
from gradtx.optimizers.elementwise.cocob import COCOBState as COCOBState
from gradtx.optimizers.elementwise.lion import ScaleByLionState as ScaleByLionState
from gradtx.optimizers.elementwise.madgrad import MadgradState as MadgradState
from gradtx.optimizers.elementwise.rmsprop import ScaleByRmsState as ScaleByRmsState
from gradtx.optimizers.elementwise.rmsprop import ScaleByRStdDevState as ScaleByRStdDevState
from gradtx.optimizers.elementwise.rprop import ScaleByRpropState as ScaleByRpropState
from gradtx.optimizers.layerwise.adafactor import FactoredState as FactoredState
from gradtx.optimizers.layerwise.galore import GaLoreState as GaLoreState
from gradtx.optimizers.layerwise.muon import MuonState as MuonState
from gradtx.optimizers.layerwise.novograd import ScaleByNovogradState as ScaleByNovogradState
from gradtx.optimizers.layerwise.sm3 import ScaleBySM3State as ScaleBySM3State
from gradtx.optimizers.treewide.dadapt_adamw import DAdaptAdamWState as DAdaptAdamWState
from gradtx.optimizers.treewide.dog import DoGState as DoGState
from gradtx.optimizers.treewide.dog import DoWGState as DoWGState
from gradtx.optimizers.treewide.momo import MomoState as MomoState
from gradtx.optimizers.treewide.momo_adam import MomoAdamState as MomoAdamState
from gradtx.optimizers.treewide.prodigy import ProdigyState as ProdigyState
from gradtx.transforms.apply_every import ApplyEveryState
from gradtx.transforms.clip import ClipByGlobalNormState as ClipByGlobalNormState
from gradtx.transforms.momentum import EmaState as EmaState
from gradtx.transforms.momentum import TraceState as TraceState
from gradtx.transforms.monitor import MonitorState as MonitorState
from gradtx.transforms.monitor import SnapshotState as SnapshotState
from gradtx.transforms.noise import AddNoiseState as AddNoiseState
from gradtx.transforms.plateau import ReduceLROnPlateauState as ReduceLROnPlateauState
from gradtx.transforms.privacy import DifferentiallyPrivateAggregateState as DifferentiallyPrivateAggregateState
from gradtx.transforms.zero_nans import ZeroNansState as ZeroNansState
from gradtx.wrappers.conditional import ConditionallyMaskState as ConditionallyMaskState
from gradtx.wrappers.conditional import ConditionallyTransformState as ConditionallyTransformState
from gradtx.wrappers.if_finite import ApplyIfFiniteState as ApplyIfFiniteState
from gradtx.wrappers.inject_hyperparams import InjectHyperparamsState as InjectHyperparamsState

AdaptiveGradClipState = CountState
AddDecayedWeightsState = CountState
ApplyEvery = ApplyEveryState
ClipState = CountState
InjectStatefulHyperparamsState = InjectHyperparamsState
MultiTransformState = PartitionState
NonNegativeParamsState = EmptyState
NormalizeState = CountState
ScaleByBacktrackingLinesearchState = LinesearchState
ScaleByScheduleState = CountState
ScaleByTrustRatioState = CountState
ScaleByZoomLinesearchState = LinesearchState
ScaleState = CountState
ZoomLinesearchInfo = LinesearchInfo


class SplitRealAndImaginaryState(NamedTuple):
    """The state of the inner transformation."""

    inner_state: Any
