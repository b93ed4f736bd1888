"""The sweep of 128 runs in one vmapped call."""

import numpy as np
import pytest

from examples.textbook import sweep as script


@pytest.fixture(scope="module")
def values():
    return script.compute()


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def by_hand(rate, decay):
    """The test loss after training with AdamW, in NumPy."""
    training, test = ((np.asarray(data.images, float), np.asarray(data.labels)) for data in script.load())
    w, m, v = np.zeros((64, 10)), np.zeros((64, 10)), np.zeros((64, 10))
    for t in range(1, script.STEPS + 1):
        images, labels = training
        g = images.T @ (softmax(images @ w) - np.eye(10)[labels]) / len(labels)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * ((m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * w)
    images, labels = test
    return -np.log(softmax(images @ w)[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize(("row", "column"), [(0, 3), (4, 8), (6, 6)])
def test_each_cell_is_a_run_of_its_own(values, row, column):
    assert values.shape == (8, 16)
    assert values[row, column] == pytest.approx(by_hand(script.RATES[column], script.DECAYS[row]), rel=1e-3)


def test_the_best_run_lies_inside_and_decays(values):
    row, column = np.unravel_index(np.nanargmin(values), values.shape)
    assert 0 < row < 7
    assert 0 < column < 15
    assert np.nanmin(values) < 0.95 * np.nanmin(values[0])
    assert values[row, 0] > 2 * np.nanmin(values)  # too small a learning rate


def test_the_picture_and_the_conclusion(values, tmp_path):
    figure = script.draw(values)
    figure.savefig(tmp_path / "sweep.png")
    assert figure.axes[0].get_title().startswith("lowest test loss: 0.3")
    assert "Of 128 runs of AdamW" in script.conclusion(values)
    assert f"{np.nanmin(values):.3f}" in script.conclusion(values)
