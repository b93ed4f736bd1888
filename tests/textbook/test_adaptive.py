"""Step sizes against closed forms, AdaDelta without a rate, and what AdaGrad is good and bad at."""

import numpy as np
import pytest

from examples.textbook import adaptive

pytestmark = pytest.mark.heavy  # the script runs for seconds


@pytest.fixture(scope="module")
def result():
    return adaptive.compute()


def test_step_sizes_for_a_gradient_of_one(result):
    t = 1 + np.arange(adaptive.STEPS)
    np.testing.assert_allclose(result.sizes["AdaGrad"], 0.1 / np.sqrt(t), rtol=1e-6)
    np.testing.assert_allclose(result.sizes["RMSProp"], 0.01 / np.sqrt(1 - 0.9**t), rtol=1e-6)
    # AdaDelta's square grows by (1 - rho) eps in every step, once its average of squared gradients is 1.
    late = np.square(result.sizes["AdaDelta"][100:])
    np.testing.assert_allclose(np.diff(late), 0.1 * 1e-6, rtol=2e-3)


def test_the_scale_of_the_loss_is_nothing_to_adadelta(result):
    small, one, large = result.scaled["AdaDelta"]
    np.testing.assert_allclose(large, one, atol=5e-3)
    np.testing.assert_allclose(small, one, atol=0.08)  # here eps is no longer small beside squared gradients
    assert max(small[-1], one[-1], large[-1]) < 0.03


def test_one_rate_of_gradient_descent_does_not_fit_two_scales(result):
    small, one, large = result.scaled["gradient descent"]
    np.testing.assert_allclose(small[-1], (1 - 0.05 * 0.01) ** 500, rtol=1e-5)
    assert one[-1] < 1e-10
    assert large[10] > 1e5  # |1 - 0.05 * 100| = 4 per step


def test_adagrad_learns_rare_features_and_loses_nothing_on_the_others(result):
    descent, adagrad = result.features.values()
    assert adagrad[-10:].mean() < 0.8 * descent[-10:].mean()
    shares = adaptive.SHARES
    np.testing.assert_allclose(shares.sum(), 1)
    assert adagrad**2 @ shares < 0.8 * (descent**2 @ shares)


def test_adagrad_falls_behind_a_target_that_moves(result):
    adagrad, rmsprop = result.tracking["AdaGrad"], result.tracking["RMSProp"]
    assert (np.diff(adagrad) > 0).all()
    assert adagrad[-1] > 5 * adagrad[0]
    assert rmsprop.max() < 1.6 * rmsprop.min()
    assert adagrad[-1] > 5 * rmsprop[-1]


def test_the_conclusion(result):
    conclusion = adaptive.conclusion(result)
    assert "from 0.1 to 0.0032" in conclusion
