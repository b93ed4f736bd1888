"""Building blocks for new transformations: for authors of optimizers, not for users.

    rules         Elementwise, Layerwise, Treewide; Shared, ByLeaf
    their fields  hyper, flag, choice, integer, dtype, static, applies_to, selection, per_leaf, matrix_axes
    states        per_param, reduced, factor, per_matrix, stack, per_tree, average_weights, child_state, counter;
                  PARAM; counted
    wrappers      Wrapper, Composite, View, inner; branch, loop, unless_skipped
    whole trees   Stateful
    schedules     Schedule, StatefulSchedule, number
    line searches Linesearch, LinesearchState, LinesearchInfo, Conditions, Point, Best
    storage       Format
    arithmetic    leaf, whose squares, roots and powers neither overflow nor have infinite derivatives

docs/extending.md has an example of each.
"""

from gradtx import leaf as leaf
from gradtx.core.branch import branch as branch
from gradtx.core.branch import loop as loop
from gradtx.core.composite import Composite as Composite
from gradtx.core.composite import View as View
from gradtx.core.composite import Wrapper as Wrapper
from gradtx.core.composite import inner as inner
from gradtx.core.hyper import Hyper as Hyper
from gradtx.core.hyper import Number as Number
from gradtx.core.hyper import Schedule as Schedule
from gradtx.core.hyper import StatefulSchedule as StatefulSchedule
from gradtx.core.hyper import hyper as hyper
from gradtx.core.hyper import number as number
from gradtx.core.hyper import resolve as resolve
from gradtx.core.leafwise import ByLeaf as ByLeaf
from gradtx.core.leafwise import Elementwise as Elementwise
from gradtx.core.leafwise import Layerwise as Layerwise
from gradtx.core.leafwise import Shared as Shared
from gradtx.core.leafwise import Treewide as Treewide
from gradtx.core.mask import applies_to as applies_to
from gradtx.core.mask import selection as selection
from gradtx.core.matrices import matrix_axes as matrix_axes
from gradtx.core.metrics import reports as reports
from gradtx.core.packed import Format as Format
from gradtx.core.skipping import unless_skipped as unless_skipped
from gradtx.core.slots import PARAM as PARAM
from gradtx.core.slots import average_weights as average_weights
from gradtx.core.slots import child_state as child_state
from gradtx.core.slots import counter as counter
from gradtx.core.slots import factor as factor
from gradtx.core.slots import per_matrix as per_matrix
from gradtx.core.slots import per_param as per_param
from gradtx.core.slots import per_tree as per_tree
from gradtx.core.slots import reduced as reduced
from gradtx.core.slots import stack as stack
from gradtx.core.state import CountState as CountState
from gradtx.core.state import counted as counted
from gradtx.core.stateful import Stateful as Stateful
from gradtx.core.value import choice as choice
from gradtx.core.value import dtype as dtype
from gradtx.core.value import flag as flag
from gradtx.core.value import integer as integer
from gradtx.core.value import per_leaf as per_leaf
from gradtx.core.value import static as static
from gradtx.curvature.line import Conditions as Conditions
from gradtx.curvature.line import Point as Point
from gradtx.curvature.linesearch import Best as Best
from gradtx.curvature.linesearch import Linesearch as Linesearch
from gradtx.curvature.linesearch import LinesearchInfo as LinesearchInfo
from gradtx.curvature.linesearch import LinesearchState as LinesearchState
