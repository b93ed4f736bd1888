"""The differences that code written for optax meets in gradtx: one list, for the codemod and for the documentation.

`DROP_IN` lists the differences of `gradtx.compat.optax`, which has the names, arguments and defaults of optax; only
deliberate differences remain. `NATIVE` lists further differences of gradtx's own names.
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
    """The arguments, separated by spaces: the difference matters only if a call passes one of them; empty for every
    use."""
    without: str = ""
    """An argument that removes the difference if a call passes it."""

    @property
    def names(self) -> list[str]:
        """The names in optax, as a list."""
        return self.name.split()


DROP_IN = (
    Difference(
        "contrib.acprop contrib.scale_by_acprop",
        "leaves the gradient unchanged if all previous gradients were zero; optax divides the gradient by 3e-7",
        "Nothing, unless a test expects optax's results.",
    ),
    Difference(
        "adafactor",
        "averages the updates, then multiplies by the learning rate; optax averages the multiplied updates",
        "Nothing with a constant learning rate. While a schedule changes, expect different results.",
        "momentum",
    ),
    Difference(
        "apply_if_finite",
        "checks the updates too, and after max_consecutive_errors takes one step, then counts from 0; optax takes all",
        "Nothing in a healthy run. With policy='skip', steps that are not finite are never taken.",
    ),
    Difference(
        "inject_hyperparams inject_stateful_hyperparams",
        "passes functions that are not schedules, such as masks, on unchanged; optax calls them with the step count",
        "Name such arguments in static_args, which works the same in both libraries.",
        argument="mask weight_decay_mask",
        without="static_args",
    ),
    Difference(
        "contrib.mechanize",
        "starts from the parameters passed to init; optax from the parameters passed to the first update",
        "Call init with the parameters that you train.",
    ),
    Difference(
        "contrib.reduce_on_plateau",
        "has a tolerance relative to the size of the best loss; in optax an unchanged negative loss counts as progress",
        "Nothing for positive losses.",
    ),
    Difference(
        "lbfgs scale_by_lbfgs",
        "leaves out pairs without positive curvature, so the direction always descends",
        "Nothing for convex losses. For other losses, expect different steps.",
    ),
    Difference(
        "scale_by_zoom_linesearch scale_by_backtracking_linesearch",
        "tries different step sizes; if no step size decreases the loss, the update is zero",
        "Expect different steps; read info.failed instead of the errors.",
    ),
    Difference(
        "contrib.sophia contrib.hutchinson_estimator_diag_hessian",
        "draws different random vectors from the same key",
        "Expect different results, as with a different seed.",
    ),
    Difference(
        "monitor snapshot",
        "has zeros before the first measurement; optax has no entries, or measures the parameters in init",
        "Do not detect the first step by missing measurements.",
    ),
    Difference(
        "flatten",
        "returns each leaf in its own dtype; optax returns all leaves in the same dtype",
        "Nothing, unless leaves have different dtypes.",
    ),
    Difference(
        "EmptyState",
        "is rarely the state of a transformation without memory: most have a CountState, which counts their steps",
        "Find the state that you need with optax.tree.get instead.",
        "isinstance",
    ),
    Difference(
        "ScaleByScheduleState ScaleState ClipState AddDecayedWeightsState ScaleByTrustRatioState",
        "is the class CountState, which all transformations with only a step count have in common",
        "Do not distinguish transformations by this class: use optax.tree.get(state, 'count').",
        "isinstance",
    ),
    Difference(
        "hinge_loss losses.perceptron_loss",
        "raises an error, or returns NaN in compiled code, for targets other than -1 and 1",
        "Pass targets of -1 and 1.",
    ),
    Difference(
        "ctc_loss ctc_loss_with_forward_probs",
        "raises an error, or returns NaN in compiled code, for a label that is the blank and for padding in the middle",
        "Pad at the end, and leave the blank out of the labels.",
    ),
)
"""The differences of calls that need no other change."""

FIELDS = {
    "inner_opt_state": ("MultiStepsState", "inner_state"),
    "is_init_step": ("DoGState", "count == 0"),
    "is_initial_step": ("ScaleByOptimisticGradientState", "count == 0"),
    "count_m2": ("ScaleByAdemamixState", "count"),
    "ns_coeffs": ("MuonState", "the argument ns_coeffs of muon"),
    "hyperparams_states": ("InjectStatefulHyperparamsState", "count"),
    "hessian_fn_state": ("SophiaState", "rng_key of the state around it"),
}
"""Maps fields that only optax's states have to the class of the state and to where gradtx has the same value."""

NATIVE = (
    Difference(
        "rprop scale_by_rprop",
        "uses the current gradient; in optax each update uses the previous gradient, and the first update is zero",
        "Expect different results from the first step on.",
    ),
    Difference(
        "contrib.schedule_free contrib.schedule_free_sgd contrib.schedule_free_adamw",
        "weights a step by its own learning rate; optax by the learning rate of the next step",
        "Nothing with a constant learning rate. In a warm-up, expect slightly different results.",
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
        "has ordinary parameters, and keeps the slow parameters in the state",
        "Leave LookaheadParams out.",
    ),
    Difference(
        "MaskedNode MaskedState",
        "does not exist: a group sees a dict from path to leaf with only its own leaves",
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
        "uses AdamW for leaves whose names say embedding or head, and orthogonalizes kernels of convolutions",
        "Pass muon_weight_dimension_numbers for a different choice.",
    ),
    Difference(
        "contrib.muon contrib.scale_by_muon",
        "adds nothing to norms by default",
        "Write eps=1e-8 for the default of optax.",
    ),
    Difference(
        "adadelta",
        "has a learning rate of 1 by default, and descends",
        "Pass the learning rate.",
    ),
    Difference(
        "with_extra_args_support",
        "exists only in gradtx.compat.optax: in gradtx, update raises an error for arguments that nothing reads",
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
