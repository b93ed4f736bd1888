"""Full batch, mini-batch, one sample, and the expectation."""

import numpy as np

from examples.textbook import descent
from tests.textbook import computed


def finals():
    """The mean errors over the last tenth of each run."""
    return {name: curve[-len(curve) // 10 :].mean() for name, curve in descent.errors(computed("descent")).items()}


def after_a_pass():
    curves = descent.errors(computed("descent"))
    return [curves[name][descent.TRAIN // size - 1] for name, (size, _) in descent.METHODS.items()]


def test_small_batches_are_ahead_after_one_pass():
    full, batch, one = after_a_pass()
    assert full > 2 * batch
    assert batch > 1.3 * one


def test_the_noise_of_small_batches_stops_them():
    end = finals()
    assert end["one sample"] > 1.7 * end["mini-batch of 16"]
    assert end["mini-batch of 16"] > 1.05 * end["full batch"]


def test_the_full_batch_goes_to_the_minimum_of_the_training_set_and_not_of_the_expectation():
    """Its distance from that minimum is known at every step: (I - rate H)^t times the first one."""
    result = computed("descent")
    x = result.x[: descent.TRAIN].astype(float)
    matrix = np.eye(11) - descent.METHODS["full batch"][1] * x.T @ x / descent.TRAIN
    expected = result.best_of_sample - np.linalg.matrix_power(matrix, 200) @ result.best_of_sample
    np.testing.assert_allclose(result.paths["full batch"][0, -1], expected, atol=1e-4)

    floor = descent.error(result, result.best_of_sample)
    np.testing.assert_allclose(finals()["full batch"], floor, rtol=0.1)
    assert finals()[descent.EXPECTATION] < floor / 10


def test_the_noise_falls_with_the_root_of_the_batch_size():
    noise = computed("descent").noise
    np.testing.assert_allclose(noise, noise[0] / np.sqrt(descent.SIZES), rtol=0.06)
