"""The differences that code written for optax meets in gradtx: one list, for the codemod and for the documentation.

`DROP_IN` is about `gradtx.compat.optax`, where names, arguments and defaults are optax's, so that only deliberate
differences are left. `NATIVE` is about gradtx's own names.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DROP_IN", "FIELDS", "NATIVE", "Difference", "markdown"]


class Difference(NamedTuple):
    """A difference that needs attention when code moves."""

    name: str
    """The name in optax, without `optax.`; several names are separated by spaces."""
    what: str
    """What is different."""
    todo: str
    """What to do in the code."""
    argument: str = ""
    """The argument, or several, one of which must be given for it to matter; empty if every use matters."""
    without: str = ""
    """The argument with which the difference does not matter."""

    @property
    def names(self) -> list[str]:
        """The names in optax, as a list."""
        return self.name.split()


DROP_IN = (
    Difference(
        "contrib.acprop contrib.scale_by_acprop",
        "takes the gradient as it is where all gradients before were zero; optax divides it by 3e-7",
        "Nothing, unless a test has optax's numbers.",
    ),
    Difference(
        "adafactor",
        "averages the steps and then multiplies by the learning rate; optax averages the multiplied steps",
        "Nothing with a constant rate. With a schedule, expect other numbers while it changes.",
        "momentum",
    ),
    Difference(
        "apply_if_finite",
        "looks at the updates too, and after max_consecutive_errors takes one step and counts anew; optax takes all",
        "Nothing in a healthy run. policy='skip' never takes such a step.",
    ),
    Difference(
        "inject_hyperparams inject_stateful_hyperparams",
        "takes functions that are no schedules, such as masks, as they are; optax calls them with the step count",
        "Name them in static_args, which means the same in both.",
        argument="mask weight_decay_mask",
        without="static_args",
    ),
    Difference(
        "contrib.mechanize",
        "starts from the parameters that init got; optax from those of the first update",
        "Call init with the parameters that you train.",
    ),
    Difference(
        "contrib.reduce_on_plateau",
        "takes the tolerance relative to the size of the best loss; optax takes a standstill below zero for progress",
        "Nothing for positive losses.",
    ),
    Difference(
        "lbfgs scale_by_lbfgs",
        "leaves out pairs without positive curvature, so that the direction descends",
        "Nothing for convex losses. Elsewhere expect other steps.",
    ),
    Difference(
        "scale_by_zoom_linesearch scale_by_backtracking_linesearch",
        "tries other steps than optax, and never goes up: without a step that decreases the update is zero",
        "Expect other steps; read info.failed where code looks at the errors.",
    ),
    Difference(
        "contrib.sophia contrib.hutchinson_estimator_diag_hessian",
        "draws other random vectors from the same key",
        "Expect other numbers, as with another seed.",
    ),
    Difference(
        "monitor snapshot",
        "has zeros for what was not measured yet; optax has no entries, or measures the parameters in init",
        "Do not tell the first step by missing measurements.",
    ),
    Difference(
        "flatten",
        "returns each leaf in its own dtype; optax all in one",
        "Nothing, unless leaves have several dtypes.",
    ),
    Difference(
        "EmptyState",
        "is not the state of most links that remember nothing: those count their steps, in a CountState",
        "Ask for the state that you look for instead, with optax.tree.get.",
        "isinstance",
    ),
    Difference(
        "ScaleByScheduleState ScaleState ClipState AddDecayedWeightsState ScaleByTrustRatioState",
        "is the class CountState, which every link has that only counts",
        "Do not tell links by it: use optax.tree.get(state, 'count').",
        "isinstance",
    ),
    Difference(
        "hinge_loss losses.perceptron_loss",
        "raises, or is NaN in compiled code, for targets other than -1 and 1",
        "Give targets of -1 and 1.",
    ),
    Difference(
        "ctc_loss ctc_loss_with_forward_probs",
        "raises, or is NaN in compiled code, for a label that is the blank and for padding in the middle",
        "Pad at the end, and leave the blank out of the labels.",
    ),
)
"""Differences although the call is the same."""

FIELDS = {
    "inner_opt_state": ("MultiStepsState", "inner_state"),
    "is_init_step": ("DoGState", "count == 0"),
    "is_initial_step": ("ScaleByOptimisticGradientState", "count == 0"),
    "count_m2": ("ScaleByAdemamixState", "count"),
    "ns_coeffs": ("MuonState", "the argument ns_coeffs of muon"),
    "hyperparams_states": ("InjectStatefulHyperparamsState", "count"),
    "hessian_fn_state": ("SophiaState", "rng_key of the state around it"),
}
"""Fields of optax's states that may be missing: the class, and where the same value is found."""

NATIVE = (
    Difference(
        "rprop scale_by_rprop",
        "takes every step at once; in optax each is one update late, and the first is zero",
        "Expect other numbers from the first step on.",
    ),
    Difference(
        "contrib.schedule_free contrib.schedule_free_sgd contrib.schedule_free_adamw",
        "weighs a step by the learning rate that it was taken with; optax by that of the next step",
        "Nothing with a constant rate. In a warm-up, expect slightly other numbers.",
    ),
    Difference("MultiSteps", "is accumulate", "Write gx.accumulate(inner, every)."),
    Difference("multi_transform", "is partition", "Write gx.partition(transforms, param_labels)."),
    Difference("inject_stateful_hyperparams", "is inject_hyperparams", "Write gx.inject_hyperparams(factory)."),
    Difference(
        "inject_hyperparams",
        "is not needed: hyperparameters are leaves of the transformation",
        "Write tx.replace(learning_rate=...) to change one, and gx.hyperparameters(tx, state) to read them.",
    ),
    Difference(
        "lookahead LookaheadParams",
        "has plain parameters, and the slow ones in the state",
        "Leave LookaheadParams out.",
    ),
    Difference(
        "MaskedNode MaskedState",
        "does not exist: groups hold a dict from path to leaf, without the others",
        "Use gx.tree.get to find a field.",
    ),
    Difference("adadelta", "has the argument mask", "Write mask.", "weight_decay_mask"),
    Difference("lars", "has the argument mask", "Write mask.", "weight_decay_mask"),
    Difference("contrib.muon", "has the argument mask", "Write mask.", "weight_decay_mask"),
    Difference("contrib.sophia", "has the argument mask", "Write mask.", "weight_decay_mask"),
    Difference("adafactor", "has the argument mask", "Write mask.", "weight_decay_mask"),
    Difference(
        "adafactor",
        "has the argument weight_decay, which is multiplied by the learning rate",
        "Write weight_decay with decouple_lr=True.",
        "weight_decay_rate",
    ),
    Difference("contrib.sam", "calls the optimizer inner", "Write inner, or give it by position.", "optimizer"),
    Difference(
        "contrib.muon",
        "leaves embeddings and heads to AdamW by their names, and takes kernels of convolutions",
        "Give muon_weight_dimension_numbers for another choice.",
    ),
    Difference("contrib.muon contrib.scale_by_muon", "adds nothing to norms by default", "Write eps=1e-8 for optax's."),
    Difference(
        "adadelta",
        "has a learning rate of 1 by default, and descends",
        "Give the learning rate that you mean.",
    ),
    Difference(
        "with_extra_args_support",
        "is in gradtx.compat.optax alone: update raises for arguments that nothing reads",
        "Leave those arguments out.",
    ),
    Difference(
        "global_norm",
        "is the norm of a tree",
        "Write gx.tree.norm(tree).",
    ),
)
"""Further differences of gradtx's own names."""


def markdown(differences: tuple[Difference, ...]) -> str:
    """Returns the list as a table for the documentation."""
    rows = ["| optax | here it | what to do |", "| --- | --- | --- |"]
    for one in differences:
        names = ", ".join(f"`{name}`" for name in one.names)
        arguments = " or ".join(f"`{name}`" for name in one.argument.split())
        given = {"": "", "isinstance": " in `isinstance`"}.get(one.argument, f" with {arguments}")
        given += f" without `{one.without}`" if one.without else ""
        rows.append(f"| {names}{given} | {one.what} | {one.todo} |")
    return "\n".join(rows) + "\n"
