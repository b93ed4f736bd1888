"""The laws of schedules: pure functions of the step (or of arrays of steps), exact and differentiable."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.cases import finite
from tests.laws.subject import NotApplicableError, law


def curve(subject, counts):
    if not subject.library.values:  # optax's schedules accept a single step at a time
        return jax.jit(jax.vmap(subject.tx))(counts)
    return jax.jit(lambda counts: subject.tx(counts))(counts)


@law(2, "numbers of schedules", of_values=True, about="schedule")
def schedules_are_data(subject):
    """A schedule can be an argument of a jitted function, and vmap over its hyperparameters equals a loop."""
    counts = jnp.arange(20)
    expected = jax.jit(lambda schedule, counts: schedule(counts))(subject.tx, counts)
    assert expected.dtype == jnp.float64
    np.testing.assert_allclose(curve(subject, counts), expected, rtol=1e-12, atol=1e-15)
    twice = jax.tree.map(lambda x: jnp.asarray([x, x]), subject.tx)
    both = jax.vmap(lambda s: s(counts), axis_size=2)(twice)
    np.testing.assert_allclose(both, [expected, expected], rtol=1e-12, atol=1e-15)


@law(5, "far steps", about="schedule")
def far_steps_are_finite(subject):
    """At all steps up to the largest int32 the value is finite, also in float32."""
    for x64 in (True, False):
        with jax.enable_x64(x64):
            counts = jnp.asarray([0, 1, 2**24, 2**24 + 1, 2**31 - 2, 2**31 - 1], jnp.int32)
            if "multiplicative" in subject.case.expression:
                counts = counts[:2]  # the schedule must call its function once for each step so far
            assert finite(curve(subject, counts))


@law(6, "slopes of schedules", of_values=True, about="schedule")
def schedules_are_differentiable(subject):
    """The derivatives with respect to all hyperparameters of a schedule are finite."""
    counts = jnp.arange(20)
    assert finite(jax.jit(jax.grad(lambda schedule: jnp.sum(schedule(counts))))(subject.tx))


@law(8, "steps one by one", about="schedule")
def steps_one_by_one_equal_many(subject):
    """jit, vmap over steps, and single Python steps agree."""
    counts = jnp.arange(20)
    one_by_one = [float(subject.tx(int(t))) for t in counts]
    np.testing.assert_allclose(jax.vmap(subject.tx)(counts), one_by_one, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(curve(subject, counts), one_by_one, rtol=1e-12, atol=1e-15)


@law(12, "parity of schedules", of_values=True, about="schedule")
def schedules_are_optaxs(subject):
    """A schedule that optax has gives optax's values, in float64."""
    case = subject.case
    if case.optax is None:
        raise NotApplicableError(case.why)
    reference = case.reference()
    expected = [float(reference(t)) for t in range(30)]
    np.testing.assert_allclose(subject.tx(jnp.arange(30)), expected, rtol=1e-12, atol=1e-15)
