"""`minimize`: functions without minimum, rescaled problems, every dtype, constraint sets, a single compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.curvature.line import Conditions, Point
from gradtx.testing.eager import programs

F32 = jnp.float32


def falling(x):
    """A function without minimum, which leaves the range of float32 at 89."""
    return -jnp.sum(jnp.exp(x))


# --- no minimum

METHODS = {
    "lbfgs": gx.lbfgs(),
    "bfgs": gx.bfgs(),
    "sr1": gx.sr1(),
    "nonlinear_cg": gx.nonlinear_cg(),
    "newton_cg": gx.newton_cg(),
    "trust region": gx.trust_region_newton(),
    "lbfgsb": gx.lbfgsb(-jnp.inf, jnp.inf),
    "sgd": gx.sgd(0.1),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("tx", METHODS.values(), ids=METHODS)
def test_a_function_without_a_minimum_ends_at_a_finite_lower_point(tx):
    start = jnp.asarray([0.5, 0.1], F32)
    result = gx.minimize(falling, start, tx, maxiter=200)
    assert result.status == gx.Status.unbounded, result.message
    assert "minus infinity" in result.message
    assert np.isfinite(result.params).all()
    assert np.isfinite(result.value)
    assert result.value < falling(start)
    np.testing.assert_allclose(result.value, falling(result.params), rtol=1e-6)


@pytest.mark.parametrize("name", ["bfgs", "nonlinear_cg"])
def test_linear_and_concave_functions_have_no_minimum(name):
    start = jnp.asarray([0.5, 0.1], F32)
    for function in (lambda x: -jnp.sum(x), lambda x: -jnp.sum(x**2)):
        result = gx.minimize(function, start, METHODS[name])
        assert result.status == gx.Status.unbounded, result.message
        assert np.isfinite(result.params).all()
        assert np.isfinite(result.value)


def test_a_function_with_an_infimum_is_not_called_unbounded():
    start = jnp.asarray([0.5, 0.1], F32)
    for function in (lambda x: jnp.sum(jnp.exp(-x)), lambda x: jnp.sum(x**2)):
        result = gx.minimize(function, start, maxiter=3, tol=0.0)
        assert result.status != gx.Status.unbounded


@pytest.mark.parametrize("search", ["scale_by_zoom_linesearch", "scale_by_hager_zhang_linesearch"])
def test_a_search_does_not_end_at_minus_infinity(search):
    tx = getattr(gx, search)(30)
    x, direction = jnp.asarray([0.5, 0.1], F32), jnp.asarray([200.0, 100.0], F32)
    value, grad = jax.value_and_grad(falling)(x)
    updates, state = tx.update(direction, tx.init(x), x, value=value, grad=grad, value_fn=falling)
    assert not state.info.failed
    assert np.isfinite(state.value)
    assert falling(x + updates) < value


def test_minus_infinity_is_no_decrease():
    zero, inf = jnp.zeros(()), jnp.asarray(jnp.inf)
    conditions = Conditions(Point(zero, zero, -jnp.ones(())), 1e-4, 0.9, 1e-6)
    assert conditions.decrease_error(Point(zero + 1, -inf, -inf)) == inf


def test_what_is_returned_is_what_converged():
    """Newton's method climbs to a point where the gradient vanishes, although the start is lower."""
    start = jnp.asarray([0.5, 0.1])
    result = gx.minimize(falling, start, gx.newton())
    np.testing.assert_array_equal(result.params, start)
    assert result.status != gx.Status.converged


# --- no units

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(6, 6))
MATRIX, SLOPE, START = ROOT @ ROOT.T + np.eye(6), RNG.normal(size=6), RNG.normal(size=6)
SOLUTION = np.linalg.solve(MATRIX, SLOPE)


def quadratic(x, matrix, slope):
    return x @ matrix @ x / 2 - slope @ x


@pytest.mark.one_in(3)
@pytest.mark.parametrize("start", [START, 0 * START, 1e4 * START], ids=["start", "zero", "far"])
@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "sr1", "newton_cg", "trust region", "lbfgsb", "nonlinear_cg"])
def test_the_units_of_the_function_do_not_matter(name, start):
    if name == "trust region" and start[0] > 100:
        pytest.skip("its radius has the units of the parameters")
    for unit in (1e-20, 1e-10, 1e10, 1e20):
        if name in ("nonlinear_cg", "sr1") and unit in (1e-20, 1e20):
            continue  # along the negative gradient, the slope is the squared norm, which leaves the range of float32
        data = jnp.asarray(unit * MATRIX, F32), jnp.asarray(unit * SLOPE, F32)
        result = gx.minimize(quadratic, jnp.asarray(start, F32), METHODS[name], args=data, tol=0.0)
        np.testing.assert_allclose(result.params, SOLUTION, atol=2e-6, err_msg=f"{unit}: {result.message}")


def test_a_given_tolerance_is_taken_literally_and_the_default_follows_the_dtype():
    for dtype, size in ((F32, 1e-3), (jnp.float64, 1e-6)):
        data = jnp.asarray(MATRIX, dtype), jnp.asarray(SLOPE, dtype)
        for unit in (1.0, 1e8):
            scaled = unit * data[0], unit * data[1]
            result = gx.minimize(quadratic, jnp.asarray(START, dtype), args=scaled)
            assert result.status == gx.Status.converged, result.message
            np.testing.assert_allclose(result.params, SOLUTION, atol=size)
        literal = gx.minimize(quadratic, jnp.asarray(START, dtype), args=data, tol=0.0)
        assert literal.status != gx.Status.converged or literal.grad_norm == 0


def test_the_default_tolerance_does_not_call_a_kink_a_minimum():
    result = gx.minimize(
        lambda x: jnp.sum(jnp.abs(x - 0.3)) + 1e3 * jnp.abs(x[0] - x[1]), jnp.asarray([1.0, -3.0], F32)
    )
    assert result.status != gx.Status.converged or result.value < 1e-3


def test_new_data_compile_nothing():
    data = jnp.asarray(MATRIX), jnp.asarray(SLOPE)
    first = gx.minimize(quadratic, jnp.zeros(6), args=data)
    with programs() as names:
        second = gx.minimize(quadratic, jnp.zeros(6), args=(2 * data[0], data[1]))
    assert "jit(solve)" not in names
    np.testing.assert_allclose(second.params, first.params / 2, atol=1e-7)
    with pytest.raises(TypeError, match=r"args must be a tuple .*args=\(data,\)"):
        gx.minimize(quadratic, jnp.zeros(6), args=data[0])


# --- dtypes


def cosh(x):
    return jnp.sum(jnp.cosh(x)).astype(x.dtype)


LOOPS = {
    **METHODS,
    "newton": gx.newton(hessian="absolute", linesearch=gx.scale_by_backtracking_linesearch(10)),
    "adaptive": gx.newton(damping="adaptive"),
    "trust region, exact": gx.trust_region_newton(subproblem="exact"),
    "backtracking": gx.chain(gx.sgd(0.1), gx.scale_by_backtracking_linesearch(10)),
    "gradient kept": gx.chain(gx.sgd(0.1), gx.scale_by_backtracking_linesearch(10, store_grad=True)),
    "zoom": gx.chain(gx.sgd(0.1), gx.scale_by_zoom_linesearch(10)),
    "hager_zhang": gx.chain(gx.sgd(0.1), gx.scale_by_hager_zhang_linesearch(10)),
    "in a box": gx.lbfgsb(-1.0, 2.0),
    "sophia": gx.sophia(0.1),
}


def one_step(tx, x):
    state, (value, grad) = tx.init(x), jax.value_and_grad(cosh)(x)
    return state, tx.update(grad, state, x, value=value, grad=grad, value_fn=cosh)


@pytest.mark.one_in(12)
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("tx", LOOPS.values(), ids=LOOPS)
def test_a_solver_keeps_its_dtypes(tx, x64):
    with jax.enable_x64(x64):
        for dtype in ("float16", "bfloat16", "float32"):
            x = jax.ShapeDtypeStruct((3,), dtype)
            result = jax.eval_shape(lambda x: gx.minimize(cosh, x, tx, maxiter=3), x)
            assert result.params.dtype == dtype
            assert result.value.dtype == result.grad_norm.dtype == "float32"
            # The hyperparameters are static in the first call, and traced in the second call.
            for before, (updates, after) in (
                jax.eval_shape(lambda x: one_step(tx, x), x),
                jax.eval_shape(one_step, tx, x),
            ):
                assert updates.dtype == dtype
                assert jax.tree.map(lambda s: s.dtype, after) == jax.tree.map(lambda s: s.dtype, before)


@pytest.mark.parametrize("x64", [False, True])
def test_least_squares_keep_their_dtypes(x64):
    with jax.enable_x64(x64):
        for dtype in ("float16", "bfloat16", "float32"):
            for method in ("levenberg_marquardt", "gauss_newton"):
                x = jax.ShapeDtypeStruct((3,), dtype)
                result = jax.eval_shape(lambda x, how=method: gx.least_squares(jnp.cosh, x, method=how, maxiter=3), x)
                assert (result.params.dtype, result.value.dtype) == (dtype, "float32")


def test_sixteen_bits_are_minimized():
    result = gx.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.asarray([3.0, -2.0], jnp.bfloat16))
    np.testing.assert_allclose(np.asarray(result.params, float), 1, atol=1e-2)


def test_a_tree_without_leaves_has_no_line():
    for params in ({}, None):
        tx = gx.lbfgs()
        updates, state = tx.update(params, tx.init(params), params)
        assert updates == params
        assert state[-1].count == 1


# --- from anywhere


@pytest.mark.heavy
def test_newton_cg_converges_from_anywhere_on_a_convex_problem():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows, start = jnp.asarray(3 * rng.normal(size=(39, 13))), jnp.asarray(rng.normal(size=13))

        def loss(x, rows=rows):
            return jax.nn.logsumexp(rows @ x) + 0.05 * jnp.sum(x**2)

        expected = gx.minimize(loss, start, gx.bfgs())
        assert expected.status == gx.Status.converged
        result = gx.minimize(loss, start, gx.newton_cg(), maxiter=100)
        assert result.status == gx.Status.converged, result.message
        np.testing.assert_allclose(result.params, expected.params, atol=1e-6)
    assert gx.newton_cg(linesearch=None) == gx.chain(gx.scale_by_newton_cg(), gx.scale_by_learning_rate(1.0))


# --- sets

SIMPLEX = gx.project(gx.projection_simplex)
STEPS = gx.sgd(0.1)
KEPT = {
    "masked, flat": gx.chain(STEPS, gx.masked(gx.flatten(SIMPLEX), {"w": True})),
    "partition": gx.partition({"a": gx.chain(STEPS, SIMPLEX)}, {"w": "a"}),
    "inject": gx.inject_hyperparams(lambda learning_rate: gx.chain(gx.sgd(learning_rate), SIMPLEX))(learning_rate=0.1),
    "lookahead": gx.lookahead(gx.chain(STEPS, SIMPLEX), 2, 0.5),
    "stored": gx.stored(gx.chain(STEPS, SIMPLEX), "bfloat16", 1),
}


@pytest.mark.parametrize("tx", KEPT.values(), ids=KEPT)
def test_minimize_keeps_to_the_set_of_what_is_inside(tx):
    result = gx.minimize(lambda p: jnp.sum((p["w"] - 10) ** 2), {"w": jnp.full(3, 10.0)}, tx)
    np.testing.assert_allclose(result.params["w"], 1 / 3, rtol=1e-6)
    assert result.status == gx.Status.converged


SETS = {
    "mask": gx.project(gx.projection_simplex, mask={"w": True, "far": False}),
    "masked": gx.masked(SIMPLEX, {"w": True, "far": False}),
    "large box": gx.project(gx.projection_box, -1e9, 1e9),
    "one-sided": gx.keep_params_nonnegative(),
    "lbfgsb": gx.lbfgsb(-1e9, 1e9),
}


@pytest.mark.parametrize("link", SETS.values(), ids=SETS)
def test_a_far_leaf_keeps_its_small_slope(link):
    params = {"w": jnp.asarray([0.2, 0.3, 0.5], F32), "far": jnp.asarray(1e6, F32)}
    grad = {"w": jnp.zeros(3, F32), "far": jnp.asarray(0.03, F32)}
    reduced = link.reduced_gradient(params, grad)
    assert reduced["far"] == grad["far"]
    assert reduced["far"].dtype == F32
    result = gx.minimize(lambda p: 0.03 * p["far"] + jnp.sum(p["w"]), params, gx.chain(STEPS, link), maxiter=2)
    assert result.status != gx.Status.converged


def test_at_the_border_of_a_set_the_reduced_gradient_is_what_it_was():
    p, g = jnp.asarray([0.0, 2.0, 1.0]), jnp.asarray([3.0, 3.0, -3.0])
    link = gx.project(gx.projection_box, 0.0, 1.5)
    close = link.reduced_gradient(p, g)
    np.testing.assert_allclose(close, [0.0, 2.0, -0.5])
