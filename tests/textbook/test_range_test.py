"""The range test, and training at what it suggests."""

import jax
import numpy as np
import pytest

import gradtx as gx
from examples.textbook import range_test as script


@pytest.fixture(scope="module")
def result():
    return script.compute()


def test_the_rates_grow_by_a_constant_factor(result):
    rates = result.test.rates
    np.testing.assert_allclose(rates[1:] / rates[:-1], 1e6 ** (1 / (script.STEPS - 1)))
    assert result.test.diverged
    assert 0.1 < rates[-1] < 10
    assert len(rates) < script.STEPS


def test_the_losses_are_those_of_adam_at_these_rates(result):
    params = script.init_params()
    state = gx.adam(1.0).init(params)
    batches = list(zip(*script.batches(), strict=True))
    for i, rate in enumerate(result.test.rates[:8]):
        value, grads = jax.value_and_grad(script.loss)(params, *batches[i])
        assert value == pytest.approx(result.test.losses[i], rel=1e-4)
        updates, state = gx.adam(rate).update(grads, state, params)
        params = gx.apply_updates(params, updates)


def test_the_suggestion_is_the_steepest_descent(result):
    logs, losses = np.log10(result.test.rates), result.test.losses
    lowest = 5 + int(np.argmin(np.convolve(losses, np.ones(11), "valid")))
    slopes = [np.polyfit(logs[i - 5 : i + 6], losses[i - 5 : i + 6], 1)[0] for i in range(5, lowest)]
    assert result.test.suggestion == result.test.rates[5 + int(np.argmin(slopes))]
    assert min(slopes) < -1


def test_training_at_the_suggestion_is_near_the_best_of_all_rates(result):
    at, tenth, tenfold = (
        np.interp(np.log(result.test.suggestion * x), np.log(result.rates), result.reached) for x in (1, 0.1, 10)
    )
    assert at < 1.5 * result.reached.min()
    assert tenth > 3 * at
    assert tenfold > 3 * at
    assert result.reached[0] == pytest.approx(np.log(10), rel=0.05)  # a tiny learning rate learns nothing


def test_the_picture_and_the_conclusion(result, tmp_path):
    figure = script.draw(result)
    figure.savefig(tmp_path / "range_test.png")
    assert "constant learning rate" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"suggests {result.test.suggestion:.2g} for Adam" in script.conclusion(result)
