"""Local minima, saddle points, vanishing gradients."""

import numpy as np

from examples.textbook import minima
from tests.textbook import computed


def slope(x):
    return np.cos(np.pi * x) - np.pi * x * np.sin(np.pi * x)


def test_each_start_ends_in_the_minimum_of_its_valley():
    ends = computed("minima").descents[:, -1]
    np.testing.assert_allclose(slope(ends), 0, atol=1e-4)
    top = 0.27384  # between the valleys, where the slope is 0 as well
    assert abs(slope(top)) < 1e-4
    np.testing.assert_allclose(ends[top > minima.STARTS], -top, atol=1e-4)
    np.testing.assert_allclose(ends[top < minima.STARTS], 1.09041, atol=1e-4)


def test_exact_newton_is_drawn_into_the_saddle_point_and_absolute_newton_leaves():
    """Each step of a quarter of Newton's multiplies a coordinate by 3/4, or by 5/4 where the sign is corrected."""
    paths = computed("minima").saddle
    steps = np.arange(15)[:, None]
    start = np.array(minima.SADDLE_START)
    np.testing.assert_allclose(paths['newton(hessian="exact")'], start * 0.75**steps, rtol=1e-4)
    np.testing.assert_allclose(paths['newton(hessian="absolute")'], start * np.array([0.75, 1.25]) ** steps, rtol=1e-4)
    np.testing.assert_allclose(paths["gradient descent"], start * np.array([0.9, 1.1]) ** steps, rtol=1e-4)


def test_the_flat_place_costs_the_predicted_steps_and_the_other_parametrization_ten():
    result = computed("minima")
    on_x, on_u = minima.predicted_crossings()
    assert on_x > 370 * on_u
    np.testing.assert_allclose(minima.crossing(result.x), on_x, rtol=3e-3)
    assert minima.crossing(result.u) == np.ceil(on_u)
    assert result.u.min() == -1, "which is the least value of tanh"
