"""The Lagrangian, penalty and projection on one problem, and clipping as a projection."""

import numpy as np

from examples.textbook import constraints
from tests.textbook import computed


def test_the_known_solution_balances_the_forces():
    x, y = constraints.SOLUTION
    alpha, beta = constraints.MULTIPLIERS
    gradient = constraints.SOLUTION - np.array(constraints.TARGET)
    np.testing.assert_allclose(gradient + alpha * np.array([2 * x, 2 * y]) + beta * np.array([0, -1]), 0, atol=1e-12)
    np.testing.assert_allclose([x**2 + y**2, y], [1, 0.6], rtol=1e-12)


def test_the_lagrangian_finds_the_point_and_its_multipliers():
    path = computed("constraints").lagrangian
    np.testing.assert_allclose(path.params[-1], constraints.SOLUTION, atol=1e-3)
    np.testing.assert_allclose(path.multipliers["inequality"][-1], constraints.MULTIPLIERS, atol=1e-3)
    assert path.multipliers["inequality"].min() == 0


def test_the_penalty_is_violated_by_multiplier_over_weight():
    violations = constraints.violations(computed("constraints"))[:, -6:]
    predicted = constraints.MULTIPLIERS[:, None] / constraints.WEIGHTS[-6:]
    np.testing.assert_allclose(violations, predicted, rtol=0.05)


def test_projection_stays_in_the_set_and_ends_at_the_solution():
    path = computed("constraints").projection
    assert np.linalg.norm(path, axis=1).max() < 1 + 1e-5
    assert path[:, 1].min() > 0.6 - 1e-5
    np.testing.assert_allclose(path[-1], constraints.SOLUTION, atol=1e-4)


def test_clipping_is_the_nearest_point_of_the_ball():
    result = computed("constraints")
    np.testing.assert_allclose(result.clipped, result.projected, rtol=1e-6)
    norms = np.linalg.norm(result.gradients, axis=1)
    outside = norms > 1
    assert 0 < outside.sum() < len(norms)
    np.testing.assert_array_equal(result.clipped[~outside], result.gradients[~outside])
    np.testing.assert_allclose(result.clipped[outside], (result.gradients / norms[:, None])[outside], rtol=1e-5)
