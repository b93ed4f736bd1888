"""Risk and empirical risk: where the minima lie, and how a sample of more points moves them together."""

import numpy as np

from examples.textbook import risk
from tests.textbook import computed


def lowest(f):
    x = np.linspace(0.5, 1.5, 100_001)
    return x[np.argmin(f(x))]


def test_the_two_minima_lie_apart():
    result = computed("risk")
    f = lowest(lambda x: x * np.cos(np.pi * x))
    g = lowest(lambda x: x * np.cos(np.pi * x) + 0.2 * np.cos(5 * np.pi * x))
    np.testing.assert_allclose([result.of_risk, result.of_g], [f, g], atol=3e-5)
    assert abs(f - g) > 0.07


def test_the_minimum_of_each_sample_is_the_lowest_point():
    result = computed("risk")
    for i in range(0, risk.SAMPLES, 40):
        for size in range(len(risk.SIZES)):
            c, s = result.waves[i, size]
            found = lowest(
                lambda x, c=c, s=s: (
                    x * np.cos(np.pi * x) + 0.2 * (c * np.cos(5 * np.pi * x) - s * np.sin(5 * np.pi * x))
                )
            )
            np.testing.assert_allclose(result.of_samples[i, size], found, atol=1e-4)


def test_the_distance_falls_with_the_root_of_the_sample_size_as_predicted():
    """The root mean square of 400 distances is known to 3.5% (one deviation)."""
    result = computed("risk")
    large = np.array(risk.SIZES) >= 30
    np.testing.assert_allclose(risk.distances(result)[large], result.predicted[large], rtol=0.11)
    x = result.of_risk
    curvature = -2 * np.pi * np.sin(np.pi * x) - np.pi**2 * x * np.cos(np.pi * x)
    np.testing.assert_allclose(result.predicted[0], np.pi / np.sqrt(2) / curvature, rtol=1e-4)
