"""Law 2: hyperparameters are data: a new number does not retrace, and vmap and schedules work for each of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx.core.hyper import Schedule, StatefulSchedule
from gradtx.core.transformation import GradientTransformation, hyperparameters
from gradtx.schedules.constant import constant_schedule
from gradtx.schedules.polynomial import linear_schedule
from gradtx.testing.calls import trajectory, update
from gradtx.testing.data import at, close
from gradtx.testing.subject import NotApplicableError, Subject, law


def numbers(tx: GradientTransformation) -> dict[str, Any]:
    """Returns the hyperparameters that are numbers by dotted name, and variants with different values."""
    return {name: 0.9 * x if x else 0.05 for name, x in _known(tx).items()}


def _known(tx: GradientTransformation) -> dict[str, Any]:
    """Returns the hyperparameters that are finite numbers, by their dotted names."""
    found = hyperparameters(tx).items()
    known = {name: x for name, x in found if not isinstance(x, (Schedule, StatefulSchedule)) and np.isfinite(x)}
    if not known:
        raise NotApplicableError("tx has no hyperparameters that are numbers")
    return known


@law(2, "one trace, vmap over each", of_values=True)
def one_trace_and_vmap_over_each(subject: Subject) -> None:
    """A step with the transformation as an argument is traced once; vmap over each hyperparameter equals a loop."""
    tx, params, grads = subject.tx, subject.params, subject.grads
    variants = [tx] + [tx.replace(**{name: x}) for name, x in numbers(tx).items()]
    traces = 0

    @jax.jit
    def run(tx: GradientTransformation) -> Any:
        nonlocal traces
        traces += 1
        return trajectory(tx, params, grads)

    loop = [run(variant) for variant in variants]
    assert traces == 1, f"{traces} traces for {len(variants)} sets of hyperparameters, instead of 1"
    stacked = jax.tree.map(lambda *xs: jnp.asarray(xs), *variants)
    batch = jax.jit(jax.vmap(lambda tx: trajectory(tx, params, grads), axis_size=len(variants)))(stacked)
    for i, expected in enumerate(loop):
        close(at(batch, i), expected, rtol=1e-10, atol=1e-14, about="results under vmap over hyperparameters differ")
    # A Python number, which is static in the rule, gives the same result as a traced number.
    close(subject.expected, loop[0], rtol=1e-10, atol=1e-14, about="results with traced hyperparameters differ")


@law(2, "schedules by hand", of_values=True, unless="by hand")
def schedules_equal_steps_by_hand(subject: Subject) -> None:
    """A schedule in every hyperparameter gives the same as replacing the hyperparameters by hand before each step."""
    tx = subject.tx
    slopes = {name: linear_schedule(x, 0.9 * x, 4) for name, x in numbers(tx).items()}
    scheduled = tx.replace(**slopes)
    state = by_hand = scheduled.init(subject.params)
    with jax.disable_jit():  # each step runs once, so compiling does not pay
        for t in range(3):
            g = at(subject.grads, t)
            current = hyperparameters(scheduled, state)
            now = {name: float(current[name]) for name in slopes}
            for name, slope in slopes.items():  # a wrapper may skip a step of the inner transformation
                steps = range(t + 1) if "own steps" in subject.unless else [t]
                shown = f"hyperparameters(tx, state) and the schedule differ in {name} at step {t}"
                assert min(abs(now[name] - float(slope(s))) for s in steps) < 1e-12, shown
            expected, by_hand = update(tx.replace(**now), g, by_hand, subject.params)
            actual, state = update(scheduled, g, state, subject.params)
            about = f"results with schedules differ at step {t}"
            close((actual, state), (expected, by_hand), rtol=1e-10, atol=1e-14, about=about)


@law(2, "constant schedules", of_values=True, unless="by hand")
def constant_schedules_equal_numbers(subject: Subject) -> None:
    """A constant schedule in every hyperparameter gives the same updates as the number itself."""
    tx = subject.tx
    constant = tx.replace(**{name: constant_schedule(x) for name, x in _known(tx).items()})
    with jax.disable_jit():
        found = trajectory(constant, subject.params, subject.grads)[0]
    about = "updates with constant schedules differ"
    # A storage format may round a scale in the other direction.
    rtol = 1e-3 if "stored(" in subject.expression else 1e-10
    close(found, subject.expected[0], rtol=rtol, atol=1e-14, about=about)
