"""Cycles equal a plain loop over the steps, and are right at every border up to the largest int32 step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.schedules.cycles import cycle

LAST = np.iinfo(np.int32).max


def walk(steps, period, multiplier, fixed=0, number=float):
    """Yields (index, position, left, length) of the steps 0, 1, ..., by a loop in the type `number`."""
    found, index, start, length = [], 0, 0, number(period)
    for step in range(steps):
        while number(step - start) >= length if number is int else number(step) - start >= length:
            start, index = start + length, index + 1
            length = (length - number(fixed)) * number(multiplier) + number(fixed)
        found.append((index, step - start, start + length - step, length))
    return np.asarray(found, float).T


def traced(count, *numbers):
    return jax.jit(lambda count, numbers: cycle(count, *numbers))(count, [float(x) for x in numbers])


@pytest.mark.one_in(3)
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    ("period", "multiplier", "fixed"),
    [(1, 1, 0), (7, 1, 3), (1, 2, 0), (3, 2, 0), (10, 3, 0), (5, 2, 4), (50, 4, 49), (1, 1000, 0), (2**24, 2, 1)],
)
def test_every_step_equals_the_loop(period, multiplier, fixed, x64):
    expected = walk(4000, period, multiplier, fixed, int)
    with jax.enable_x64(x64):
        for of in (cycle, traced):
            for counts in (np.arange(4000, dtype=np.int32), np.arange(4000.0)):
                np.testing.assert_array_equal(of(counts, period, multiplier, fixed), expected)


@pytest.mark.parametrize(("period", "multiplier", "fixed"), [(8, 1.5, 0), (10, 1.1, 0), (6, 1.25, 5), (2.5, 1, 0)])
def test_every_step_equals_the_loop_where_numbers_are_not_whole(period, multiplier, fixed):
    expected = walk(4000, period, multiplier, fixed)
    for of in (cycle, traced):
        for counts in (np.arange(4000), np.arange(4000.0)):
            found = of(counts, period, multiplier, fixed)
            np.testing.assert_array_equal(found.index, expected[0])
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
    with jax.enable_x64(False):
        found = traced(np.arange(4000), period, multiplier, fixed)
        assert np.mean(found.index != expected[0]) < 1e-3  # a border that rounds to the other side of a step
        assert np.all(np.asarray(found.position) >= 0)
        assert np.all(np.asarray(found.left) > 0)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("period", "multiplier", "fixed"), [(1, 2, 0), (3, 2, 0), (3, 3, 0), (1000, 7, 999), (11, 40, 2), (1, 99999, 0)]
)
def test_every_border_to_the_end_of_int32(period, multiplier, fixed):
    """In float32 the geometric sums are not even representable."""
    border, length, index, steps = 0, period, 0, {0: 0, LAST: 0}
    while border <= LAST:
        steps |= {step: index - (step < border) for step in (border - 1, border, border + 1) if 0 <= step <= LAST}
        steps[LAST] = index
        border, length, index = border + length, (length - fixed) * multiplier + fixed, index + 1
    counts = np.asarray(list(steps), np.int32)
    with jax.enable_x64(False):
        for of in (cycle, traced):
            found = of(counts, period, multiplier, fixed)
            np.testing.assert_array_equal(found.index, list(steps.values()))
            assert np.isfinite(np.asarray(found.length)).all()
            assert np.all(np.asarray(found.left) > 0)
            np.testing.assert_allclose(found.position + found.left, found.length, rtol=1e-6)


def test_equal_cycles_far_out():
    with jax.enable_x64(False):
        counts = np.asarray([2**24, 2**24 + 1, LAST - 1, LAST], np.int32)
        for period in (1, 3, 1000, 2**24 + 2):
            for of in (cycle, traced):
                found = of(counts, period)
                np.testing.assert_array_equal(found.index, counts // period)
                np.testing.assert_array_equal(found.position, np.float32(counts % period))
                np.testing.assert_array_equal(found.left, np.float32(period - counts % period))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (gx.cosine_restarts_schedule(1.0, 10), "period"),
        (gx.cosine_restarts_schedule(1.0, 10, 2), "period"),
        (gx.cosine_restarts_schedule(1.0, 10, 2), "multiplier"),
        (gx.cosine_restarts_schedule(1.0, 10, 1.5), "multiplier"),
        (gx.cosine_warmup_restarts_schedule(0.1, 10, 2, 1.0, 4, 0.9), "warmup"),
        (gx.cosine_warmup_restarts_schedule(0.1, 10, 2, 1.0, 4, 0.9), "gamma"),
        (gx.cyclic_schedule(0.0, 1.0, 5, 7, "triangular2"), "steps_up"),
        (gx.cyclic_schedule(0.0, 1.0, 5, 7), "steps_down"),
        (gx.wsd_schedule(0.0, 1.0, 5, 7, 9, decay="1-sqrt"), "stable_steps"),
        (gx.warmup_exponential_decay_schedule(0.0, 1.0, 5, 7, 0.5), "warmup_steps"),
    ],
)
def test_derivatives_are_those_of_the_curve(schedule, name):
    """Away from the kinks, derivatives equal finite differences."""
    counts = np.asarray([3.3, 14.7, 18.1, 33.6, 47.2])
    value, h = float(getattr(schedule, name)), 1e-6

    def curve(x):
        return schedule._filled([name], [x])(counts)

    slope = jax.jacfwd(curve)(value)
    np.testing.assert_allclose(slope, (curve(value + h) - curve(value - h)) / (2 * h), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(jax.jacrev(curve)(value), slope, rtol=1e-12)


@pytest.mark.heavy
def test_vmap_over_periods_and_multipliers():
    counts = np.arange(100)
    for name, values in (("period", [3, 5, 10]), ("multiplier", [1, 2, 3]), ("multiplier", [1.0, 1.5, 2.0])):
        schedule = gx.cosine_restarts_schedule(1.0, 4, 2)
        curves = jax.vmap(lambda x: schedule.replace(**{name: x})(counts))(jnp.asarray(values))  # noqa: B023
        loop = [schedule.replace(**{name: x})(counts) for x in values]
        np.testing.assert_allclose(curves, loop, rtol=1e-12, atol=1e-15)


def test_arrays_that_cannot_be_checked_still_end():
    counts = np.arange(5)
    for period, multiplier in ((0, 2), (-3, 2), (4, 0), (0, 0.5), (4, jnp.nan), (jnp.nan, 2)):
        jax.jit(lambda p, m: gx.cosine_restarts_schedule(1.0, p, m)(counts))(period, multiplier)


@pytest.mark.heavy
@pytest.mark.parametrize(("period", "multiplier", "warmup", "gamma"), [(5, 2, 2, 0.5), (4, 1, 0, 0.9), (9, 3, 8, 1.0)])
def test_restarts_with_warmup(period, multiplier, warmup, gamma):
    index, position, left, length = walk(300, period, multiplier, warmup)
    peak = 2.0 * gamma**index
    fall = (1 + np.cos(np.pi * (1 - left / (length - warmup)))) / 2
    expected = np.where(
        position < warmup,
        0.1 + (peak - 0.1) * position / max(warmup, 1),
        0.1 + (peak - 0.1) * fall,
    )
    schedule = gx.cosine_warmup_restarts_schedule(0.1, period, multiplier, 2.0, warmup, gamma)
    np.testing.assert_allclose(schedule(np.arange(300)), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(schedule(np.flatnonzero(position == warmup)), peak[position == warmup], rtol=1e-13)


def test_restarts():
    _, _, left, length = walk(300, 5, 2)
    expected = 0.2 + (1 - 0.2) * (1 + np.cos(np.pi * (1 - left / length))) / 2
    np.testing.assert_allclose(gx.cosine_restarts_schedule(1.0, 5, 2, 0.2)(np.arange(300)), expected, rtol=1e-12)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic(mode):
    index, position, left, _ = walk(100, 8, 1)
    gamma = 0.97 if mode == "exp_range" else 1.0
    scale = {"triangular": 1.0, "triangular2": 0.5**index, "exp_range": gamma ** np.arange(100)}[mode]
    expected = 0.1 + 0.9 * np.minimum(position / 3, left / 5) * scale
    schedule = gx.cyclic_schedule(0.1, 1.0, 3, 5, mode, gamma)
    np.testing.assert_allclose(schedule(np.arange(100)), expected, rtol=1e-12)
