"""What second moments do while a feature is away, what that does to the weights, and what a floor adds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from examples.textbook import yogi

pytestmark = pytest.mark.heavy  # the script runs for seconds


@pytest.fixture(scope="module")
def result():
    return yogi.compute()


def test_adam_forgets_while_a_feature_is_away(result):
    away = np.setdiff1d(np.arange(result.seen[0] + 1, yogi.STEPS), result.seen)
    for name, factor in (("Adam", yogi.B2), ("Yogi", 1.0), ("Yogi with a floor", 1.0)):
        moments = result.moments[name]
        np.testing.assert_allclose(moments[away], factor * moments[away - 1], rtol=1e-9)
    assert result.moments["Yogi with a floor"][result.seen[0] :].min() >= yogi.FLOOR


def test_yogi_moves_by_no_more_than_the_new_square(result):
    weights, moments = result.weights["Yogi"], result.moments["Yogi"]
    squares = np.square(weights[result.seen - 1] - 1)
    np.testing.assert_allclose(np.abs(np.diff(moments)[result.seen - 1]), (1 - yogi.B2) * squares, 1e-6, 1e-17)


@pytest.mark.parametrize("size", [0.01, 1.0])
def test_after_a_silence_adam_moves_as_far_for_any_gradient(size):
    tx = gx.adam(0.1, b2=yogi.B2, eps=0.0)
    grads = jnp.zeros(20_500).at[20_000].set(size)
    state = tx.init(grads[0])
    moves = jax.lax.scan(lambda state, g: tx.update(g, state)[::-1], state, grads)[1]
    exact = 0.1 * (1 - 0.9) / np.sqrt(1 - yogi.B2) / (1 - 0.9 / np.sqrt(yogi.B2))
    np.testing.assert_allclose(-moves.sum(), exact, rtol=1e-6)
    np.testing.assert_allclose(-moves.sum(), 0.1 / np.sqrt(1 - yogi.B2), rtol=0.01)


def test_rare_weights_never_settle_with_adam_and_do_with_yogi(result):
    rare = slice(20, None)
    at_rate = {name: errors[yogi.AT, rare] for name, errors in result.errors.items()}
    assert at_rate["Adam"].min() > 0.2
    assert at_rate["Yogi"].max() < 0.05
    assert at_rate["Yogi with a floor"].max() < 0.01
    late = result.weights["Adam"][yogi.STEPS // 2 :]
    assert np.ptp(late) > 1
    assert np.ptp(result.weights["Yogi"][yogi.STEPS // 2 :]) < 1e-3


def test_no_rate_saves_adam(result):
    adam, plain, floor = (errors.mean(axis=1) for errors in result.errors.values())
    assert adam.min() > 1e-3
    assert plain.min() < 1e-5
    assert floor.min() < 1e-5
    large = np.asarray(yogi.RATES) > 0.009
    assert (adam[large] > 5 * plain[large]).all()


def test_only_the_floor_bounds_the_first_moves(result):
    assert result.weights["Adam"].max() > 2
    assert result.weights["Yogi"].max() > 1.2
    assert result.weights["Yogi with a floor"].max() < 1 + 1e-6


def test_the_conclusion(result):
    conclusion = yogi.conclusion(result)
    assert "not at all with a floor of 0.1" in conclusion
