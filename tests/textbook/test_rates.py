"""The floors of three rates, by their exact expectation, and a bound that holds at every length of the run."""

import jax.numpy as jnp
import numpy as np
import pytest

from examples.textbook import rates


@pytest.fixture(scope="module")
def result():
    return rates.compute()


def expected(schedule):
    """E[x^2] shrinks by (1 - eta c)^2 in every step, and the noise adds eta^2."""
    curvatures, squares, losses = np.asarray(rates.CURVATURES), np.square(rates.START), []
    for eta in np.asarray(schedule(jnp.arange(rates.STEPS + 1))):
        losses.append(squares @ curvatures / 2)
        squares = (1 - eta * curvatures) ** 2 * squares + eta**2
    return np.array(losses)


@pytest.mark.parametrize("name", rates.RATES)
def test_the_mean_loss_is_the_expected_one(result, name):
    ratio = result.losses[name] / expected(rates.RATES[name])
    np.testing.assert_allclose(ratio, 1, atol=5 / np.sqrt(rates.RUNS))
    np.testing.assert_allclose(ratio.mean(), 1, atol=0.02)


def test_one_rate_never_arrives_one_stops_and_one_goes_on(result):
    constant, exponential, polynomial = result.losses.values()
    np.testing.assert_allclose(constant[500:].mean(), constant[100:500].mean(), rtol=0.05)
    np.testing.assert_allclose(exponential[-1], exponential[200], rtol=1e-3)
    # The floor of a constant rate is proportional to it, and the polynomial rate passes through all the floors.
    slope = np.polyfit(np.log(np.arange(100, 1001)), np.log(polynomial[100:]), 1)[0]
    assert -0.6 < slope < -0.4
    assert polynomial[-1] < constant[-1] / 5 < exponential[-1] / 20


def test_the_bound_holds_at_every_horizon_and_is_no_idle_one(result):
    for losses, bounds in (result.best, result.falling):
        assert (losses <= bounds).all()
    losses, bounds = result.best
    assert (losses > bounds / 3).all()
    slope = np.polyfit(np.log(rates.HORIZONS[4:]), np.log(losses[4:]), 1)[0]
    np.testing.assert_allclose(slope, -0.5, atol=0.06)


def test_the_constant_rate_of_the_horizon_has_the_smallest_bound(result):
    for horizon, smallest in zip(rates.HORIZONS, result.best[1], strict=True):
        rate = rates.R / (rates.L * np.sqrt(horizon))
        np.testing.assert_allclose(rates.bound(np.full(horizon, rate))[-1], smallest, rtol=1e-12)
        for other in (0.9 * rate, 1.1 * rate):
            assert rates.bound(np.full(horizon, other))[-1] > 1.001 * smallest


def test_the_conclusion(result):
    conclusion = rates.conclusion(result)
    assert "0.30 with the exponential rate" in conclusion
    assert "holds at every T" in conclusion
