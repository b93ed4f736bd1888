"""Schedules at their borders: exact for large steps, defined past the end, no surprises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import SCHEDULES

BIG = 2**24


@pytest.mark.parametrize("x64", [False, True])
def test_neighbouring_large_steps_differ(x64):
    with jax.enable_x64(x64):
        counts = jnp.asarray([BIG, BIG + 1], jnp.int32)
        joined = gx.join_schedules([gx.constant_schedule(1.0), gx.constant_schedule(2.0)], [BIG + 1])
        piecewise = gx.piecewise_constant_schedule(1.0, {BIG + 1: 0.5})
        linear = gx.linear_schedule(1.0, 0.0, 2 * BIG)
        for schedule in (joined, piecewise, linear):
            for values in (schedule(counts), jax.jit(schedule)(counts)):
                assert values[0] != values[1], schedule


@pytest.mark.parametrize("x64", [False, True])
def test_boundaries_that_are_traced_are_exact_up_to_float32(x64):
    """Through jit the boundary is a float32 number, the count stays an integer: the difference is exact."""
    with jax.enable_x64(x64):
        schedule = gx.join_schedules([gx.constant_schedule(1.0), gx.linear_schedule(0.0, 8.0, 8)], [BIG])
        counts = jnp.asarray([BIG - 1, BIG, BIG + 1, BIG + 2], jnp.int32)
        np.testing.assert_array_equal(jax.jit(lambda s, c: s(c))(schedule, counts), [1.0, 0.0, 1.0, 2.0])


@pytest.mark.parametrize("case", SCHEDULES, ids=str)
def test_every_int32_step_has_a_finite_value_that_stays(case):
    schedule = case.make()
    if "halving" in case.expression:
        return  # the function is the user's
    with jax.enable_x64(False):
        last = np.iinfo(np.int32).max
        values = np.asarray(schedule(jnp.asarray([0, 30, BIG + 1, last - 1, last], jnp.int32)))
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    endless = ("inverse_", "cyclic_", "cosine_restarts_", "cosine_warmup_restarts_")
    if not case.expression.startswith(endless):
        assert values[-1] == values[-2] == values[-3]


@pytest.mark.parametrize("case", SCHEDULES, ids=str)
def test_counts_of_any_kind(case):
    schedule = case.make()
    expected = float(schedule(3))
    for count in (3.0, np.int32(3), np.float64(3.0), jnp.asarray(3), jnp.asarray(3, jnp.int16), jnp.asarray(3.0)):
        np.testing.assert_allclose(float(schedule(count)), expected, rtol=1e-12)
    assert schedule(jnp.zeros((2, 3), int)).shape == (2, 3)


def test_lengths_may_be_arrays():
    lengths = jnp.asarray([2, 4, 8])
    values = jax.vmap(lambda n: gx.linear_schedule(1.0, 0.0, n)(1))(lengths)
    np.testing.assert_allclose(values, [0.5, 0.75, 0.875])
    values = jax.vmap(lambda n: gx.cosine_decay_schedule(1.0, n)(n))(lengths)
    np.testing.assert_allclose(values, np.zeros(3), atol=1e-30)


def test_derivatives_by_lengths():
    slope = jax.grad(lambda n: gx.linear_schedule(1.0, 0.0, n)(1))(4.0)
    np.testing.assert_allclose(slope, 1 / 16)


def test_stairs_do_not_round_up():
    """floor(x / y) is one too many where x / y rounds to an integer."""
    with jax.enable_x64(False):
        schedule = gx.exponential_decay(1.0, 41, 0.5, staircase=True)
        counts = np.arange(41 * 100)
        np.testing.assert_allclose(schedule(counts), 0.5 ** (counts // 41), rtol=1e-6)


def test_warmup_of_length_zero_and_peak_zero():
    schedule = gx.warmup_cosine_decay_schedule(0.5, 1.0, 0, 10)
    assert float(schedule(0)) == 1.0
    rising = gx.warmup_cosine_decay_schedule(0.0, 0.0, 2, 10, end_value=0.1)
    np.testing.assert_allclose(float(rising(10)), 0.1)
