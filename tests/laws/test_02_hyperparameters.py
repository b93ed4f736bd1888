"""Law 2: hyperparameters are data: none retraces, vmap over each equals a loop, schedules equal steps by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import SCHEDULES, TRANSFORMATIONS, at, close, costly, draw, kept, stack, trajectory, update

PARAMS = draw(0)
GRADS = stack([draw(i + 1, scale=0.3) for i in range(3)])
WITH_HYPERS = [case for case in TRANSFORMATIONS if gx.hyperparameters(case.make())]


def numbers(tx):
    """The dotted names of the hyperparameters that are numbers, and other values for them."""
    known = {name: x for name, x in gx.hyperparameters(tx).items() if not isinstance(x, gx.Schedule) and np.isfinite(x)}
    return {name: 0.9 * x if x else 0.05 for name, x in known.items()}


@pytest.mark.parametrize("case", costly(1, WITH_HYPERS))
def test_one_trace_and_vmap_over_each(case):
    tx = case.make()
    variants = [tx] + [tx.replace(**{name: x}) for name, x in numbers(tx).items()]
    traces = 0

    @jax.jit
    def run(tx):
        nonlocal traces
        traces += 1
        return trajectory(tx, PARAMS, GRADS)

    loop = [run(variant) for variant in variants]
    assert traces == 1
    stacked = jax.tree.map(lambda *xs: jnp.asarray(xs), *variants)
    batch = jax.jit(jax.vmap(lambda tx: trajectory(tx, PARAMS, GRADS), axis_size=len(variants)))(stacked)
    for i, expected in enumerate(loop):
        close(at(batch, i), expected, rtol=1e-10, atol=1e-14)
    # A number given at construction, static in the rule, gives the same as a traced one.
    close(jax.jit(lambda: trajectory(tx, PARAMS, GRADS))(), loop[0], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", costly(2, kept("by hand", WITH_HYPERS)))
def test_schedules_equal_steps_by_hand(case):
    tx = case.make()
    slopes = {name: gx.linear_schedule(x, 0.5 * x, 4) for name, x in numbers(tx).items()}
    scheduled = tx.replace(**slopes)
    state = by_hand = scheduled.init(PARAMS)
    step = jax.jit(lambda tx, g, state: update(tx, g, state, PARAMS))
    for t in range(3):
        g = at(GRADS, t)
        current = gx.hyperparameters(scheduled, state)
        now = {name: float(current[name]) for name in slopes}
        for name, slope in slopes.items():  # a wrapper may leave a step of the inner transformation out
            steps = range(t + 1) if "own steps" in case.unless else [t]
            assert min(abs(now[name] - float(slope(s))) for s in steps) < 1e-12
        expected, by_hand = step(tx.replace(**now), g, by_hand)
        actual, state = step(scheduled, g, state)
        close((actual, state), (expected, by_hand), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("case", SCHEDULES, ids=str)
def test_schedules_over_steps_and_numbers(case):
    schedule = case.make()
    counts = jnp.arange(20)
    curve = jax.jit(lambda schedule, counts: schedule(counts))(schedule, counts)
    assert curve.dtype == jnp.float64
    one_by_one = [float(schedule(int(t))) for t in counts]
    np.testing.assert_allclose(curve, one_by_one, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(jax.vmap(schedule)(counts), one_by_one, rtol=1e-12, atol=1e-15)
    twice = jax.tree.map(lambda x: jnp.asarray([x, x]), schedule)
    both = jax.vmap(lambda s: s(counts), axis_size=2)(twice)
    np.testing.assert_allclose(both, [curve, curve], rtol=1e-12, atol=1e-15)


def test_sixteen_bit_hyperparameters_are_used_in_float32():
    for dtype in ("float16", "bfloat16"):
        b2 = jnp.asarray(0.999, dtype)
        tx = gx.scale_by_adam(b2=b2)
        expected = gx.scale_by_adam(b2=b2.astype("float32"))
        g = jnp.asarray([[0.5, -2.0]], dtype)
        # bfloat16 rounds 0.999 to 1, which no arithmetic can mend: use what it can hold.
        if dtype == "float16":
            close(trajectory(tx, g[0], g), trajectory(expected, g[0], g), rtol=1e-6)


def test_non_scalar_hyperparameters_are_refused():
    tx = gx.scale(jnp.ones(3))
    with pytest.raises(ValueError, match=r"step_size has shape \(3,\).*vmap"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))
