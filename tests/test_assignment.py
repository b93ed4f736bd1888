"""The Hungarian algorithm against SciPy's: rectangles, ties, infinities, and problems without a feasible answer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import linear_sum_assignment

import gradtx as gx

solve = gx.assignment.hungarian_algorithm
SHAPES = [(1, 1), (2, 5), (5, 2), (7, 7), (8, 13), (13, 8), (20, 20), (1, 6), (16, 4), (12, 12)]


def drawn(shape, k, rng):
    """Draws matrices of five kinds in turn."""
    costs = rng.normal(size=shape)
    return [
        costs,
        rng.integers(0, 3, size=shape) * 1.0,  # ties
        np.where(rng.random(shape) < 0.3, np.inf, costs),
        np.where(rng.random(shape) < 0.6, np.inf, np.abs(rng.integers(0, 3, size=shape))),  # often infeasible
        1e300 * costs,
    ][k % 5]


@pytest.mark.one_in(5)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_500_random_matrices_cost_what_they_cost_in_scipy(shape):
    rng = np.random.default_rng(sum(shape))
    costs = np.stack([drawn(shape, k, rng) for k in range(50)])
    rows, columns = map(np.asarray, jax.jit(jax.vmap(solve))(costs))
    assert rows.shape == columns.shape == (50, min(shape))
    infeasible = 0
    for c, i, j in zip(costs, rows, columns, strict=True):
        assert (np.diff(i) > 0).all()
        assert len(set(j)) == len(j)
        assert (i >= 0).all()
        assert (i < shape[0]).all()
        assert (j >= 0).all()
        assert (j < shape[1]).all()
        try:
            best = c[linear_sum_assignment(c)].sum()
        except ValueError:
            best, infeasible = np.inf, infeasible + 1
        np.testing.assert_allclose(c[i, j].sum(), best, rtol=1e-12)
    assert infeasible or shape != (7, 7)


def by_trial(c):
    """Returns, by trying all assignments, the fewest infinities, and with them the smallest sum of the other costs."""
    n, m = c.shape
    if n > m:
        return by_trial(c.T)
    found = []
    for columns in itertools.permutations(range(m), n):
        taken = c[range(n), columns]
        found.append((np.sum(np.isposinf(taken)) - np.sum(np.isneginf(taken)), taken[np.isfinite(taken)].sum()))
    return min(found)


@pytest.mark.heavy
def test_without_a_feasible_assignment_as_few_pairs_as_possible_are_forbidden():
    rng = np.random.default_rng(3)
    costs = np.where(rng.random((60, 4, 5)) < 0.75, np.inf, rng.integers(-4, 9, size=(60, 4, 5)))
    costs[40:] = np.where(rng.random((20, 4, 5)) < 0.3, -np.inf, costs[40:])
    rows, columns = jax.vmap(solve)(costs)
    assert sum(np.isinf(by_trial(c)[0]) or by_trial(c)[0] > 0 for c in costs) > 10
    for c, i, j in zip(costs, rows, columns, strict=True):
        taken = c[i, j]
        count = np.sum(np.isposinf(taken)) - np.sum(np.isneginf(taken))
        assert (count, taken[np.isfinite(taken)].sum()) == by_trial(c)


def test_optax_forbids_more_pairs_than_need_be():
    """Without a feasible assignment, optax uses more forbidden pairs than necessary: here three instead of two."""
    c = np.full((3, 3), np.inf)
    c[2, 0] = 3.0
    i, j = optax.assignment.hungarian_algorithm(jnp.asarray(c))
    assert np.isinf(c[i, j]).sum() == 3
    i, j = solve(c)
    assert np.isinf(c[i, j]).sum() == by_trial(c)[0] == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32", "int8", "bool"])
def test_any_real_dtype_to_its_ends(dtype):
    rng = np.random.default_rng(0)
    if jnp.issubdtype(dtype, jnp.floating):
        unit = float(jnp.finfo(dtype).max) / 8
        c = jnp.asarray(rng.integers(-8, 9, size=(5, 7)) * unit, dtype)
    else:
        c = jnp.asarray(rng.integers(0, 2 if dtype == "bool" else 100, size=(5, 7)), dtype)
    i, j = solve(c)
    exact = np.asarray(c, np.float64)
    assert exact[i, j].sum() == exact[linear_sum_assignment(exact)].sum()
    assert i.dtype == j.dtype == jnp.result_type(int)


def test_tiny_costs_are_told_apart_in_float32():
    c = jnp.asarray([[3e-38, 2e-38], [2e-38, 4e-38]], jnp.float32)
    with jax.enable_x64(False):
        i, j = solve(c)
    assert j.tolist() == [1, 0]
    assert i.dtype == "int32"


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_no_pairs(shape):
    i, j = solve(np.zeros(shape))
    assert i.shape == j.shape == (0,)
    assert jnp.issubdtype(i.dtype, jnp.integer)


def test_the_sum_of_the_chosen_costs_has_a_derivative():
    c = jnp.asarray([[1.0, 5.0, 9.0], [2.0, 1.0, 9.0]])
    assert jax.grad(lambda c: c[solve(c)].sum())(c).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_bad_costs():
    with pytest.raises(TypeError, match="cost_matrix must hold real numbers"):
        solve(np.ones((2, 2)) * 1j)
    with pytest.raises(TypeError, match="cost_matrix must hold real numbers"):
        solve("costs")
    with pytest.raises(ValueError, match=r"two axes, \(rows, columns\), got shape \(3,\)"):
        solve(np.ones(3))
    bad = np.array([[np.nan, 2.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="has a NaN"):
        solve(bad)
    assert jax.jit(solve)(bad)[1].tolist() == [1, 0]
