"""A learning rate and a weight decay learned by differentiating through training."""

import jax
import numpy as np
import pytest

import gradtx as gx
from examples.textbook import hypergradients as script


@pytest.fixture(scope="module")
def result():
    return script.compute()


def closed(rate, decay):
    """The validation loss without running: w_T = (1 - (1 - rate h)^T) / h b along each eigenvector of the Hessian."""
    training, validation = script.load()
    n = len(training.y)
    h, vectors = np.linalg.eigh(training.x.T @ training.x / n + decay * np.eye(20))
    b = vectors.T @ (training.x.T @ training.y) / n
    w = vectors @ ((1 - (1 - rate * h) ** script.STEPS) / h * b)
    return np.mean((validation.x @ w - validation.y) ** 2) / 2


@pytest.mark.parametrize(("rate", "decay"), [(0.002, 5.0), (0.05, 0.3), (0.1, 0.01)])
def test_hypergradients_are_derivatives_of_the_closed_form(rate, decay):
    value, slopes = jax.value_and_grad(script.validation_loss)(script.make(rate, decay), *script.load())
    assert value == pytest.approx(closed(rate, decay), rel=1e-5)
    found = [x for _, x in sorted(gx.hyperparameters(slopes).items())]  # weight decay first
    by_rate = (closed(rate * 1.0001, decay) - closed(rate / 1.0001, decay)) / (rate * (1.0001 - 1 / 1.0001))
    by_decay = (closed(rate, decay * 1.0001) - closed(rate, decay / 1.0001)) / (decay * (1.0001 - 1 / 1.0001))
    np.testing.assert_allclose(found, [by_decay, by_rate], rtol=1e-3)


def test_they_lead_to_the_best_of_the_grid(result):
    assert result.losses[0] == pytest.approx(closed(*script.START.values()), rel=1e-4)
    rate, decay = (result.path[name][-1] for name in script.START)
    assert result.losses[-1] == pytest.approx(closed(rate, decay), rel=1e-4)
    assert result.losses[-1] < np.nanmin(result.grid) + 0.005 < result.losses[0] - 1
    assert abs(np.log(decay / 0.65)) < 0.1
    assert result.grid[5, 20] == pytest.approx(closed(script.RATES[20], script.DECAYS[5]), rel=1e-4)


def test_both_matter(result):
    """With either of the two as it was at the start, the other alone does not get there."""
    rate, decay = script.START["learning_rate"], script.START["weight_decay"]
    assert min(closed(rate, d) for d in script.DECAYS) > result.losses[-1] + 0.5
    assert min(closed(r, decay) for r in script.RATES if r * (decay + 8) < 2) > result.losses[-1] + 0.5


def test_the_picture_and_the_conclusion(result, tmp_path):
    script.draw(result).savefig(tmp_path / "hypergradients.png")
    assert f"to {result.losses[-1]:.3f}, at learning rate" in script.conclusion(result)
