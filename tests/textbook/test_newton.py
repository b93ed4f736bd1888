"""One step on a quadratic, the rate of gradient descent, and who finds the way along Rosenbrock's valley."""

import jax
import numpy as np
import pytest

import gradtx as gx
from examples.textbook import newton

pytestmark = pytest.mark.heavy  # the script runs for seconds


@pytest.fixture(scope="module")
def result():
    return newton.compute()


def test_newton_arrives_in_one_step_on_any_quadratic(result):
    for found in (result.bowl, result.turned):
        np.testing.assert_allclose(found["Newton"][1:], 0, atol=1e-12)


def test_the_diagonal_does_so_only_where_it_is_the_whole_hessian(result):
    np.testing.assert_allclose(result.bowl["diagonal"][1:], 0, atol=1e-12)
    np.testing.assert_allclose(result.turned["diagonal"], result.turned["gradient descent"], rtol=1e-5)


@pytest.mark.parametrize("name", ["bowl", "turned"])
def test_gradient_descent_has_the_rate_of_the_condition_number(result, name):
    values = jax.vmap(getattr(newton, name))(getattr(result, name)["gradient descent"])
    kappa = 20.0
    np.testing.assert_allclose(values[1:] / values[:-1], ((kappa - 1) / (kappa + 1)) ** 2, rtol=1e-4)


def test_the_valley(result):
    steps = {name: end.steps for name, end in result.ends.items()}
    assert all(end.status == gx.Status.converged for end in result.ends.values())
    assert steps["gradient descent"] > 100 * steps["BFGS"]
    assert steps["diagonal"] > 100 * steps["BFGS"]
    assert steps["BFGS"] < 50
    assert steps["Newton"] < 8
    for path in result.valley.values():
        np.testing.assert_allclose(path[-1], [1, 1], atol=1e-5)
    assert newton.rosenbrock(result.valley["Newton"][2]) > 1000  # uphill first: the model is a bad one there


def test_each_step_of_newton_minimizes_the_quadratic_model(result):
    for x, after in zip(result.valley["Newton"][:4], result.valley["Newton"][1:5], strict=True):
        hessian, grad = jax.hessian(newton.rosenbrock)(x), jax.grad(newton.rosenbrock)(x)
        np.testing.assert_allclose(after, x - np.linalg.solve(hessian, grad), rtol=1e-6)


def test_the_conclusion(result):
    conclusion = newton.conclusion(result)
    assert "BFGS 35" in conclusion
