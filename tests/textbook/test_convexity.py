"""Convex sets and functions, Jensen's inequality, and where descent ends."""

import numpy as np
import pytest

from tests.textbook import computed

CONVEX = ("disc", "intersection", "log-sum-exp")


@pytest.mark.parametrize("name", CONVEX)
def test_convex_sets_hold_all_midpoints(name):
    assert computed("convexity").midpoints[name] == 1


def test_other_sets_do_not():
    midpoints = computed("convexity").midpoints
    assert 0.9 < midpoints["union"] < 0.995
    assert 0.5 < midpoints["double well"] < 0.7


def test_the_second_derivative():
    curvature = computed("convexity").curvature
    np.testing.assert_allclose(curvature["x²/2"], 1, rtol=1e-5)
    np.testing.assert_allclose(curvature["exp(x/2)"], np.exp(-1.5) / 4, rtol=1e-5)
    np.testing.assert_allclose(curvature["cos(πx)"], -(np.pi**2), rtol=1e-5)
    assert curvature["log-sum-exp"] > 0
    np.testing.assert_allclose(curvature["double well"], -4, rtol=1e-5)


def test_jensens_inequality():
    gaps = computed("convexity").jensen
    assert gaps["x²/2"].min() > 0
    assert gaps["exp(x/2)"].min() > 0
    assert gaps["cos(πx)"].min() < -0.5
    assert gaps["cos(πx)"].max() > 0.5


def test_the_bound_by_a_hidden_variable():
    mean, own = computed("convexity").surprise
    assert (mean - own).min() > 0
    assert mean[120] == pytest.approx(
        sum(p * (0.5 * (m / s) ** 2 + np.log(s * np.sqrt(2 * np.pi))) for p, m, s in ((0.7, -1, 0.6), (0.3, 1.5, 0.4))),
        rel=1e-5,
    )


def test_every_start_ends_in_the_minimum_of_a_convex_function_and_not_of_another():
    paths = computed("convexity").paths
    np.testing.assert_allclose(paths["log-sum-exp"][:, -1], [[-np.log(2) / 2, 0]] * 16, atol=1e-4)
    x, y = paths["double well"][:, -1].T
    np.testing.assert_allclose(y, 0, atol=1e-4)
    np.testing.assert_allclose(4 * x * (x**2 - 1) + 0.3, 0, atol=1e-4)
    assert (x < -1).any()
    assert (x > 0.9).any()
