"""`least_squares`: the certified fits of NIST, and properties of every solver of sums of squares."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests import nist

pytestmark = pytest.mark.heavy  # minutes of compilation

METHODS = ("levenberg_marquardt", "gauss_newton")
RNG = np.random.default_rng(0)
A = RNG.normal(size=(7, 3))
B = RNG.normal(size=7)


def linear(x):
    return jnp.asarray(A) @ x - jnp.asarray(B)


def rosenbrock(x):
    return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def decay(p):
    """Four points on a curve, with noise; params are a tree with an empty place and two shapes."""
    t = jnp.arange(6.0, dtype=p["rate"].dtype).reshape(2, 3)
    y = jnp.asarray([[2.0, 1.2, 0.7], [0.45, 0.29, 0.15]], t.dtype)
    return {"r": p["size"][0, 0] * jnp.exp(-p["rate"] * t) - y, "none": None}


START = {"size": jnp.ones((1, 1)), "none": None, "rate": jnp.zeros(())}


@functools.cache
def certified():
    """Returns the results at all 54 starts."""
    residual, starts, indices = nist.together()

    def solve(start, index):
        return gx.least_squares(lambda b: residual(b, index), start)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(solve))(starts, indices))


def test_models_have_the_certified_sums_of_squares():
    for problem in nist.PROBLEMS.values():
        r = problem.residual(problem.certified)
        # The sum of Lanczos1, 1e-25, is smaller than the error that the rounding of its certified parameters causes.
        assert problem.digits_of_sum(r @ r / 2) > 9 or problem.name == "Lanczos1", problem.name


def test_levenberg_marquardt_fits_all_54_starts_of_nist():
    """All runs succeed, even the hard ones.

    BoxBOD 1 would jump to a flat part of its curve if steps of large curvature were not rejected. Mgh10 1 follows a
    canyon for hundreds of steps. Bennett5 and Lanczos have Jacobians that are singular to 1e-6.
    """
    results = certified()
    digits = [p.digits(results.params[i, : p.certified.size]) for i, (p, _) in enumerate(nist.STARTS)]
    assert sum(d >= 6 for d in digits) == 54, [(p.name, s, d) for (p, s), d in zip(nist.STARTS, digits, strict=True)]
    assert np.all(results.status == gx.Status.converged)


def test_sums_of_squares_of_nist():
    """The sums of squares of Lanczos1 are rounding errors of the data, 1e-25."""
    results = certified()
    for i, (problem, _) in enumerate(nist.STARTS):
        assert problem.digits_of_sum(results.value[i]) > 9 or problem.name == "Lanczos1", problem.name


@pytest.mark.parametrize("name", ["Misra1a", "Rat43", "Thurber"])
def test_units_do_not_matter(name):
    """Rescaled parameters take the same steps, so badly scaled problems neither stop too early nor too late."""
    problem = nist.PROBLEMS[name]
    units = 10.0 ** np.linspace(-8, 8, problem.certified.size)
    plain = gx.least_squares(problem.residual, jnp.asarray(problem.starts[1]))
    scaled = gx.least_squares(lambda b: 1e6 * problem.residual(b / units), jnp.asarray(problem.starts[1] * units))
    assert problem.digits(plain.params) > 6
    assert problem.digits(scaled.params / units) > 6
    assert abs(int(plain.steps) - int(scaled.steps)) <= 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac", ["forward", "reverse"])
def test_linear_problems_take_one_or_two_steps(method, jac):
    result = gx.least_squares(linear, jnp.zeros(3), method=method, jac=jac)
    expected, square, *_ = np.linalg.lstsq(A, B)
    np.testing.assert_allclose(result.params, expected, rtol=1e-7)
    np.testing.assert_allclose(result.value, square[0] / 2, rtol=1e-12)
    assert result.status == gx.Status.converged
    assert result.steps <= (1 if method == "gauss_newton" else 2)
    assert result.evaluations == result.steps + 1


@pytest.mark.parametrize("method", METHODS)
def test_rank_deficient_and_wide_jacobians_take_the_shortest_step(method):
    twice = np.concatenate([A, A[:, :1]], axis=1)
    result = gx.least_squares(lambda x: jnp.asarray(twice) @ x - jnp.asarray(B), jnp.zeros(4), method=method)
    assert result.status == gx.Status.converged
    np.testing.assert_allclose(result.params, np.linalg.lstsq(twice, B)[0], rtol=1e-7)
    wide = gx.least_squares(lambda x: jnp.asarray(A).T @ x - jnp.asarray(B[:3]), jnp.zeros(7), method=method)
    assert wide.status == gx.Status.converged
    assert wide.value < 1e-16
    assert wide.grad_norm < 1e-7


def test_parameters_that_no_residual_reads_stay():
    result = gx.least_squares(lambda x: jnp.stack([x[0] - 3, 2 * x[0] - 6]), jnp.array([1.0, 5.0]))
    np.testing.assert_allclose(result.params, [3, 5], rtol=1e-12)
    assert result.status == gx.Status.converged


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_residuals_that_vanish(method, dtype):
    result = gx.least_squares(rosenbrock, jnp.array([-1.2, 1.0], dtype), method=method)
    eps = jnp.finfo(dtype).eps
    assert result.status == gx.Status.converged
    assert result.params.dtype == dtype
    assert result.value <= 1e3 * eps**2
    np.testing.assert_allclose(result.params, 1, rtol=100 * eps)


def test_starts_at_the_solution():
    result = gx.least_squares(rosenbrock, jnp.ones(2))
    assert (result.steps, result.evaluations, result.value) == (0, 1, 0)
    assert result.status == gx.Status.converged
    again = gx.least_squares(linear, jnp.asarray(np.linalg.lstsq(A, B)[0]))
    assert (again.steps, again.status) == (0, gx.Status.converged)


def test_trees_and_float32():
    wide = gx.least_squares(decay, START)
    assert jax.tree.structure(wide.params) == jax.tree.structure(START)
    assert wide.params["size"].shape == (1, 1)
    grads = jax.grad(lambda p: jnp.sum(decay(p)["r"] ** 2) / 2)(wide.params)
    np.testing.assert_allclose(wide.grad_norm, np.hypot(grads["size"][0, 0], grads["rate"]), rtol=1e-3, atol=1e-15)
    narrow = gx.least_squares(decay, jax.tree.map(lambda x: x.astype("float32"), START))
    assert narrow.value.dtype == narrow.params["rate"].dtype == "float32"
    assert narrow.status == gx.Status.converged
    np.testing.assert_allclose(narrow.params["rate"], wide.params["rate"], rtol=1e-5)
    half = gx.least_squares(decay, jax.tree.map(lambda x: x.astype("bfloat16"), START))
    assert half.params["rate"].dtype == "bfloat16"
    np.testing.assert_allclose(np.float32(half.params["rate"]), wide.params["rate"], rtol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_vmap_over_starts_is_a_loop(method):
    starts = jnp.array([[-1.2, 1.0], [3.0, -2.0], [1.0, 1.0], [0.1, 40.0]])
    solve = functools.partial(gx.least_squares, rosenbrock, method=method)
    batch = jax.vmap(solve)(starts)
    for i, start in enumerate(starts):
        alone = solve(start)
        assert (alone.steps, alone.status) == (batch.steps[i], batch.status[i])
        np.testing.assert_allclose(batch.params[i], alone.params, rtol=1e-9)
    assert len(batch.message) == 4


def test_jit_and_vmap_over_data():
    rows = jnp.asarray(RNG.normal(size=(3, 7)))
    fits = jax.jit(jax.vmap(lambda y: gx.least_squares(lambda x: jnp.asarray(A) @ x - y, jnp.zeros(3)).params))(rows)
    np.testing.assert_allclose(fits, np.linalg.lstsq(A, np.asarray(rows).T)[0].T, rtol=1e-7)


def test_new_tolerances_and_limits_trace_nothing():
    traces = []

    def counted(x):
        traces.append(1)
        return linear(x)

    gx.least_squares(counted, jnp.zeros(3))
    first = len(traces)
    gx.least_squares(counted, jnp.zeros(3), tol=1e-3, maxiter=5)
    assert len(traces) <= first + 1  # the call that finds the shapes of the residuals


def test_complex_residuals():
    phases = jnp.exp(1j * jnp.asarray(B))
    result = gx.least_squares(lambda x: phases * (x[0] + 1j * x[1]) - phases * (2 - 3j), jnp.zeros(2))
    np.testing.assert_allclose(result.params, [2, -3], rtol=1e-8)


def test_steps_that_are_not_finite_are_shortened():
    """The full step would lead to a point where the logarithm is undefined."""
    for method in METHODS:
        result = gx.least_squares(lambda x: jnp.log(x), jnp.array([20.0]), method=method)
        assert result.status == gx.Status.converged
        np.testing.assert_allclose(result.params, 1)


def test_how_it_ends():
    assert gx.least_squares(rosenbrock, jnp.array([-1.2, 1.0]), maxiter=2).status == gx.Status.maxiter
    assert gx.least_squares(rosenbrock, jnp.array([-1.2, 1.0]), maxiter=0).params[0] == -1.2
    assert gx.least_squares(jnp.log, jnp.array([-1.0])).status == gx.Status.not_finite
    cliff = gx.least_squares(lambda x: jnp.where(x < 2, jnp.nan, x), jnp.array([2.0]))
    assert (cliff.status, cliff.params[0]) == (gx.Status.not_finite, 2)

    def wrong(x):
        """A function whose derivative has the wrong sign, so that no step decreases it."""
        return 5.0 + jax.lax.stop_gradient(2 * x) - x

    assert gx.least_squares(wrong, jnp.array([1.0])).status == gx.Status.stalled
    assert gx.least_squares(wrong, jnp.array([1.0]), method="gauss_newton").status == gx.Status.linesearch_failed


def test_residuals_beyond_the_range_of_squares():
    for size in (1e-30, 1e30):
        result = gx.least_squares(
            lambda x, size=size: (rosenbrock(x) * size).astype("float32"), jnp.float32([-1.2, 1.0])
        )
        assert result.status == gx.Status.converged
        np.testing.assert_allclose(result.params, 1, rtol=1e-5)


def test_bad_calls():
    x = jnp.ones(2)
    with pytest.raises(TypeError, match="complex"):
        gx.least_squares(rosenbrock, {"a": x + 1j})
    with pytest.raises(TypeError, match="only floating"):
        gx.least_squares(rosenbrock, jnp.arange(2))
    with pytest.raises(TypeError, match="must be a function"):
        gx.least_squares(x, x)
    with pytest.raises(ValueError, match="method must be one of"):
        gx.least_squares(rosenbrock, x, method="newton")
    with pytest.raises(ValueError, match="jac must be one of"):
        gx.least_squares(rosenbrock, x, jac="central")
    with pytest.raises(ValueError, match=r"in \[0, 1\)"):
        gx.least_squares(rosenbrock, x, tol=-1.0)
    with pytest.raises(TypeError, match="maxiter must be an integer"):
        gx.least_squares(rosenbrock, x, maxiter=1.5)
    with pytest.raises(ValueError, match="no entries"):
        gx.least_squares(rosenbrock, {"a": None})
    with pytest.raises(ValueError, match="returns no entries"):
        gx.least_squares(lambda x: None, x)
