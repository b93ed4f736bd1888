"""The start with and without corrections, NAdam's step ahead, and decay that does or does not depend on gradients."""

import numpy as np
import pytest

from examples.textbook import adam

pytestmark = pytest.mark.heavy  # the script runs for seconds


@pytest.fixture(scope="module")
def result():
    return adam.compute()


def test_the_corrections_make_the_first_steps_as_long_as_the_others(result):
    t = 1 + np.arange(adam.STEPS)
    np.testing.assert_allclose(result.sizes["Adam"], 1, rtol=1e-6)
    np.testing.assert_allclose(
        result.sizes["without corrections"], (1 - adam.B1**t) / np.sqrt(1 - adam.B2**t), rtol=1e-6
    )
    assert result.paths["without corrections"].min() < 3 * result.paths["Adam"].min() < 0


def test_nadam_is_adam_one_step_ahead_when_the_gradient_turns(result):
    ahead = result.turns["NAdam"][adam.TURN : -1]
    np.testing.assert_allclose(ahead, result.turns["Adam"][adam.TURN + 1 :], atol=1e-6)
    first_back = [int(np.argmax(sizes < 0)) for sizes in result.turns.values()]
    assert first_back[0] == first_back[1] + 1


def test_adamw_decays_all_weights_alike(result):
    expected = (1 - adam.RATE * adam.DECAY) ** adam.STEPS
    error = adam.RATE * np.sqrt(adam.STEPS / adam.COPIES)  # of a mean of random walks
    np.testing.assert_allclose(result.weights["AdamW"], expected, atol=5 * error)


def test_with_a_penalty_large_gradients_hide_the_decay(result):
    weights = result.weights["Adam with an L2 penalty"]
    assert weights[0] < 0.05
    assert weights[-1] > 0.98
    assert (np.diff(weights) > -0.01).all()
    # Where the noise is far above the decay, it alone makes the second moment, by whose root the decay is divided.
    noise = adam.NOISE[adam.NOISE > 5]
    expected = np.exp(-adam.RATE * adam.DECAY * adam.STEPS / noise)
    np.testing.assert_allclose(weights[adam.NOISE > 5], expected, atol=0.04)


def test_the_conclusion(result):
    conclusion = adam.conclusion(result)
    assert "up to 6.6 learning rates" in conclusion
