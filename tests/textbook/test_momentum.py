"""Runs against eigenvalues, over a grid and for Nesterov's form; what a sum with and without dampening remembers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from examples.textbook import momentum


@pytest.fixture(scope="module")
def result():
    return momentum.compute()


def test_eigenvalues_predict_the_rate_everywhere(result):
    assert result.measured.shape == (60, 60)
    np.testing.assert_allclose(result.measured, result.predicted, atol=3e-3)


def test_it_converges_just_where_the_rate_is_below_two_and_two_beta(result):
    inside = momentum.RATES * max(momentum.CURVATURES) < 2 + 2 * momentum.MOMENTA
    np.testing.assert_array_equal(result.measured < 1, inside)
    assert 500 < inside.sum() < 3000


def test_polyaks_pair_is_the_best(result):
    rate, beta = momentum.best_pair(momentum.CURVATURES)
    best = momentum.predicted(np.array([[rate]]), np.array([[beta]]))[0, 0]
    np.testing.assert_allclose(best, np.sqrt(beta), atol=1e-6)
    np.testing.assert_allclose(best, (np.sqrt(10) - 1) / (np.sqrt(10) + 1), atol=1e-6)
    assert best <= result.predicted.min()
    np.testing.assert_allclose(result.measured.min(), best, atol=0.02)
    np.testing.assert_allclose(
        result.measured[0].min(), 9 / 11, atol=5e-3
    )  # without momentum: (kappa - 1) / (kappa + 1)


def test_one_vmap_over_the_values_is_one_trace():
    traces = []

    def factor(rate, beta):
        traces.append(None)
        return momentum.measured(rate, beta)

    jax.jit(jax.vmap(factor))(jnp.array([0.1, 0.2]), jnp.array([0.5, 0.3]))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("name", "factor"),
    [("gradient descent", 99 / 101), ("momentum", 9 / 11), ("dampened", 9 / 11), ("Nesterov", 0.9)],
)
def test_the_race(result, name, factor):
    late = np.log(result.errors[name][75:])
    slope = np.polyfit(np.arange(len(late)), late, 1)[0]
    np.testing.assert_allclose(np.exp(slope), factor, atol=0.008)


def test_nesterovs_rate_is_that_of_its_own_matrix():
    rate, beta = 1 / max(momentum.STEEP), momentum.MOMENTUM**0.5
    matrices = [[[beta, c], [-rate * beta**2, 1 - rate * c * (1 + beta)]] for c in momentum.STEEP]
    largest = np.abs(np.linalg.eigvals(np.array(matrices))).max()
    np.testing.assert_allclose(largest, 0.9, atol=1e-6)


@pytest.mark.parametrize(
    ("tx", "arrives"), [(gx.sgd(1 / 9, 4 / 9), False), (gx.sgd(1 / 25, 2 / 3, nesterov=True), True)], ids=str
)
def test_the_heavy_ball_can_cycle_where_nesterov_arrives(tx, arrives):
    """Lessard, Recht and Packard, 2016: curvatures 1 and 25, each with its best pair."""

    def step(carry, _):
        x, state = carry
        grad = jnp.where(x < 1, 25 * x, jnp.where(x < 2, x + 24, 25 * x - 24))
        updates, state = tx.update(grad, state)
        return (gx.apply_updates(x, updates), state), x

    start = jnp.array(3.3)
    path = jax.lax.scan(step, (start, tx.init(start)), length=500)[1]
    assert (jnp.abs(path[-10:]).max() < 1e-6) == arrives
    assert arrives or jnp.abs(path[-10:]).max() > 0.5


def test_what_the_sums_remember(result):
    ages = np.arange(41)
    for beta in (0.95, 0.9, 0.6):
        np.testing.assert_allclose(result.weights[f"beta = {beta}"], beta**ages, rtol=1e-6)
    np.testing.assert_allclose(result.weights["beta = 0.9, dampened"], 0.1 * 0.9**ages, rtol=1e-6)


def test_the_conclusion(result):
    conclusion = momentum.conclusion(result)
    assert "best pair has 0.53" in conclusion
    assert "less than 0.82" in conclusion
