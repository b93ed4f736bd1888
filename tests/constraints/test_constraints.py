"""Constrained methods keep the parameters in the set at every step, and find the same solutions as other solvers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

import gradtx as gx
from gradtx import select
from tests.cases import close

SHAPE = (6, 5)


def outside(x, name):
    """Returns how far x is outside of a set, relative to the set's size of 1, in float64."""
    x = np.asarray(x, np.float64)
    low = max(-x.min(), 0.0)
    return {
        "simplex": lambda: max(low, abs(x.sum() - 1)),
        "rows": lambda: max(low, np.abs(x.sum(-1) - 1).max()),
        "columns": lambda: max(low, np.abs(x.sum(0) - 1).max()),
        "l1": lambda: np.abs(x).sum() - 1,
        "l2": lambda: np.linalg.norm(x) - 1,
        "linf": lambda: np.abs(x).max() - 1,
        "nuclear": lambda: np.linalg.norm(x, "nuc") - 1,
        "sphere": lambda: abs(np.linalg.norm(x) - 1),
        "spheres": lambda: np.abs(np.linalg.norm(x, axis=-1) - 1).max(),
        "stiefel": lambda: np.abs(x.T @ x - np.eye(x.shape[1])).max(),
        "positive": lambda: low,
        "bits": lambda: max(low, x.max() - 1),
    }[name]()


ADAM = gx.adam(0.3)
METHODS = {
    "simplex": (gx.chain(ADAM, gx.project(gx.projection_simplex)), "simplex"),
    "rows": (gx.chain(ADAM, gx.project(gx.projection_simplex, axis=-1)), "rows"),
    "columns": (gx.chain(ADAM, gx.project(gx.projection_simplex, axis=0)), "columns"),
    "l1": (gx.chain(ADAM, gx.project(gx.projection_l1_ball)), "l1"),
    "l2": (gx.chain(ADAM, gx.project(gx.projection_l2_ball)), "l2"),
    "box": (gx.chain(ADAM, gx.project(gx.projection_box, 0.0, 1.0)), "bits"),
    "clip": (gx.chain(ADAM, gx.clip_params(0.0, 1.0)), "bits"),
    "nonnegative": (gx.chain(ADAM, gx.keep_params_nonnegative()), "positive"),
    "sphere": (gx.chain(ADAM, gx.project(gx.projection_l2_sphere)), "sphere"),
    "nuclear": (gx.chain(ADAM, gx.project(gx.projection_nuclear_ball)), "nuclear"),
    "tree": (gx.chain(ADAM, gx.flatten(gx.project(gx.projection_simplex))), "simplex"),
    "proximal": (gx.proximal(gx.projection_simplex, 0.5), "simplex"),
    "accelerated": (gx.proximal(gx.projection_simplex, 0.5, acceleration=True, axis=-1), "rows"),
    "entropy": (gx.mirror_descent(0.5), "simplex"),
    "entropy of rows": (gx.mirror_descent(0.5, axis=-1), "rows"),
    "unnormalized": (gx.mirror_descent(0.5, "unnormalized_entropy"), "positive"),
    "bits": (gx.mirror_descent(0.5, "bit_entropy"), "bits"),
    "fw simplex": (gx.frank_wolfe(gx.oracle_simplex), "simplex"),
    "fw rows": (gx.frank_wolfe(gx.oracle_simplex, axis=-1), "rows"),
    "fw l1": (gx.frank_wolfe(gx.oracle_l1_ball, step_size=0.3), "l1"),
    "fw l2": (gx.frank_wolfe(gx.oracle_l2_ball), "l2"),
    "fw linf": (gx.frank_wolfe(gx.oracle_linf_ball), "linf"),
    "fw box": (gx.frank_wolfe(gx.oracle_box, 0.0, 1.0), "bits"),
    "fw nuclear": (gx.frank_wolfe(gx.oracle_nuclear_ball), "nuclear"),
    "riemannian sphere": (gx.chain(ADAM, gx.riemannian()), "sphere"),
    "riemannian rows": (gx.chain(ADAM, gx.riemannian(axis=-1)), "spheres"),
    "stiefel": (gx.chain(ADAM, gx.riemannian("stiefel")), "stiefel"),
    "stiefel by qr": (gx.chain(ADAM, gx.riemannian("stiefel", retraction="qr")), "stiefel"),
}


def walk(tx, x, gradients):
    """Returns the parameters after each of a few steps with given gradients."""

    def step(carry, g):
        x, state = carry
        updates, state = tx.update(g, state, x)
        x = gx.apply_updates(x, updates)
        return (x, state), x

    return jax.lax.scan(step, (x, tx.init(x)), gradients)[1]


@pytest.mark.parametrize(
    "dtype", ["float64", *(pytest.param(x, marks=pytest.mark.heavy) for x in ("float32", "bfloat16", "float16"))]
)
@pytest.mark.parametrize("name", METHODS)
def test_every_step_is_feasible(name, dtype):
    """In 16 bits, every step is feasible up to the rounding of each entry of parameters and update."""
    rng = np.random.default_rng(0)
    tx, kept = METHODS[name]
    start = np.full(SHAPE, 1 / 30) if kept != "stiefel" else np.eye(*SHAPE)
    gradients = jnp.asarray(rng.normal(size=(8, *SHAPE)) * np.geomspace(1e-3, 1e3, 8)[:, None, None], dtype)
    for x in jax.jit(functools.partial(walk, tx))(jnp.asarray(start, dtype), gradients):
        assert outside(x, kept) < 100 * float(jnp.finfo(dtype).eps)


@pytest.mark.heavy
@pytest.mark.parametrize("name", METHODS)
def test_a_nan_stays_visible(name):
    tx, _ = METHODS[name]
    x = jnp.asarray(np.eye(*SHAPE) / 2 + 0.01)
    new = jax.jit(functools.partial(walk, tx))(x, jnp.full((1, *SHAPE), 0.1).at[0, 1, 1].set(jnp.nan))
    assert np.isnan(new).any()


def test_bounds_hold_exactly_and_zero_is_reached():
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        p = jnp.asarray(rng.uniform(0.1, 0.7, size=10_000), dtype)
        g = jnp.asarray(rng.normal(size=10_000) * 10.0 ** rng.integers(-8, 8, size=10_000), dtype)
        low, high = jnp.asarray(0.1, dtype), jnp.asarray(0.7, dtype)
        tx = gx.clip_params(low, high)
        new = gx.apply_updates(p, tx.update(g, tx.init(p), p)[0])
        assert ((new >= low) & (new <= high)).all()
        np.testing.assert_allclose(new, np.clip(p + g, 0.1, 0.7), 0, 2 * float(jnp.finfo(dtype).eps))
        tx = gx.project(gx.projection_box, low, high)
        np.testing.assert_allclose(gx.apply_updates(p, tx.update(g, tx.init(p), p)[0]), new, rtol=1e-6)
        tx = gx.keep_params_nonnegative()
        new = gx.apply_updates(p, tx.update(g, tx.init(p), p)[0])
        np.testing.assert_array_equal(new, np.maximum(p + g, 0))


def test_an_update_that_stays_inside_leads_where_it_did():
    p, g = jnp.asarray([1.0, 0.0, -0.3, 1e-3]), jnp.asarray([1e-17, 1e-30, 0.1, 0.7])
    for tx in (gx.project(gx.projection_l2_ball, 2.0), gx.clip_params(-2.0, 2.0), gx.project(gx.projection_box, -2, 2)):
        np.testing.assert_array_equal(p + tx.update(g, tx.init(p), p)[0], p + g)


def test_the_derivative_is_that_of_the_projection_where_the_point_does_not_move():
    tx = gx.project(gx.projection_simplex)
    p = jnp.asarray([0.2, 0.3, 0.5])
    slope = jax.jacobian(lambda g: tx.update(g, tx.init(p), p)[0])(jnp.zeros(3))
    np.testing.assert_allclose(slope, np.eye(3) - 1 / 3, atol=1e-15)


def test_the_radius_may_be_an_array_a_schedule_or_traced():
    p, g = jnp.zeros(4), jnp.ones(4)
    tx = gx.project(gx.projection_l2_ball, gx.linear_schedule(1.0, 0.5, 1))
    assert gx.hyperparameters(tx)["scale"] == gx.linear_schedule(1.0, 0.5, 1)
    state = tx.init(p)
    for radius in (1.0, 0.5):
        updates, state = tx.update(g, state, p)
        np.testing.assert_allclose(gx.tree.norm(updates), radius, rtol=1e-15)
    norms = jax.vmap(lambda r: gx.tree.norm(tx.replace(scale=r).update(g, tx.init(p), p)[0]))(jnp.asarray([0.3, 0.6]))
    np.testing.assert_allclose(norms, [0.3, 0.6], rtol=1e-15)
    slope = jax.grad(lambda tx: gx.tree.norm(tx.update(g, tx.init(p), p)[0]))(tx.replace(scale=0.5))
    np.testing.assert_allclose(gx.hyperparameters(slope)["scale"], 1.0)
    bounds = {"w": jnp.asarray([0.1, 0.2])}
    tx = gx.project(gx.projection_box, {"w": -jnp.ones(2)}, bounds)  # data may be trees, for the function to look at
    assert gx.hyperparameters(tx)["upper"] is not None
    assert hash(tx) == hash(tx)


def test_the_whole_tree_and_selected_leaves():
    params = {"a": jnp.asarray([0.5, 0.1]), "b": jnp.asarray([0.2, 0.1, 0.1])}
    grads = jax.tree.map(lambda p: 3 * jnp.arange(p.size) - 1.0, params)
    there = gx.apply_updates(params, grads)

    def new(tx):
        return gx.apply_updates(params, tx.update(grads, tx.init(params), params)[0])

    simplex = gx.project(gx.projection_simplex)
    close(new(gx.flatten(simplex)), gx.projection_simplex(there), atol=1e-15)
    each = jax.tree.map(gx.projection_simplex, there)
    close(new(simplex), each, atol=1e-15)
    for mask in (select.path("b"), {"a": False, "b": True}):
        close(new(simplex.replace(mask=mask)), {"a": there["a"], "b": each["b"]}, atol=1e-15)
        close(new(gx.masked(gx.flatten(simplex), mask)), {"a": there["a"], "b": each["b"]}, atol=1e-15)
    tx, square = gx.project(gx.projection_simplex, axis=2), jnp.ones((2, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 2\) has no axis 2"):
        tx.update(square, tx.init(square), square)


def test_constructors_refuse_what_they_cannot_use():
    for make, match in (
        (lambda: gx.project(3.0), "projection must be a function"),
        (lambda: gx.project(gx.projection_l2_ball, "2"), "project: scale must be a number"),
        (lambda: gx.project(gx.projection_l2_ball, axis=0.5), "axis must be an integer"),
        (lambda: gx.clip_params(2.0, 1.0), "lower = 2.0 is greater than upper = 1.0"),
        (lambda: gx.proximal(gx.prox_l1, -1.0), "learning_rate must be in"),
        (lambda: gx.mirror_descent(0.1, "hyperbolic"), "mirror must be one of"),
        (lambda: gx.frank_wolfe(gx.oracle_simplex, step_size=2.0), "step_size must be in"),
        (lambda: gx.riemannian("torus"), "manifold must be one of"),
        (
            lambda: gx.project(gx.projection_simplex).update(jnp.ones(2), gx.rules.CountState(jnp.zeros((), int))),
            "params",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            make()


def test_clipping_by_the_global_norm_is_the_projection_onto_the_ball():
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        g = {"w": jnp.asarray(scale * rng.normal(size=(4, 3))), "b": jnp.asarray(scale * rng.normal(size=5))}
        for radius in (0.0, 0.5, 2.0):
            tx = gx.clip_by_global_norm(radius)
            close(tx.update(g, tx.init(g))[0], gx.projection_l2_ball(g, radius), rtol=1e-12)


# --- the same minima as other libraries

DIABETES = load_diabetes()
X = (DIABETES.data - DIABETES.data.mean(0)) / DIABETES.data.std(0)
Y = (DIABETES.target - DIABETES.target.mean()) / DIABETES.target.std()
LIPSCHITZ = float(np.linalg.eigvalsh(X.T @ X / len(Y))[-1])


def least_squares(w):
    return 0.5 * jnp.mean((X @ w - Y) ** 2)


def run(loss, tx, w, steps):
    step = gx.value_and_step(loss, tx)
    start = (w, tx.init(w))
    return jax.jit(lambda: jax.lax.fori_loop(0, steps, lambda _, carry: step(*carry)[:2], start))()[0]


@pytest.mark.parametrize("acceleration", [False, True])
def test_lasso_and_elastic_net(acceleration):
    from sklearn.linear_model import ElasticNet

    for ratio in (1.0, 0.4):
        weights = (0.1 * ratio, 0.1 * (1 - ratio))

        def objective(w, weights=weights):
            return least_squares(w) + weights[0] * jnp.sum(jnp.abs(w)) + weights[1] / 2 * jnp.sum(w**2)

        tx = gx.proximal(gx.prox_elastic_net, 1 / LIPSCHITZ, *weights, acceleration=acceleration)
        found = run(least_squares, tx, jnp.zeros(10), 300 if acceleration else 3000)
        model = ElasticNet(alpha=0.1, l1_ratio=ratio, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(X, Y)
        assert abs(objective(found) - objective(model.coef_)) < 1e-6
        np.testing.assert_array_equal(jnp.abs(found) > 1e-9, model.coef_ != 0)


@pytest.mark.heavy
def test_acceleration_takes_fewer_steps():
    """On the ill-conditioned quadratic of second differences, in a box."""
    n = 60
    second = 2 * jnp.eye(n) - jnp.eye(n, k=1) - jnp.eye(n, k=-1)
    target = jnp.asarray(np.random.default_rng(1).normal(size=n))

    def loss(x):
        return 0.5 * x @ second @ x - target @ x

    best = gx.minimize(loss, jnp.zeros(n), maxiter=5000).value
    gaps = {}
    for name, options in {
        "plain": {},
        "fast": {"acceleration": True},
        "free": {"acceleration": True, "restart": False},
    }.items():
        x = run(loss, gx.proximal(gx.projection_box, 0.25, -1e6, 1e6, **options), jnp.zeros(n), 400)
        gaps[name] = float(loss(x) - best)
    assert gaps["fast"] < 1e-5 * gaps["plain"]
    assert gaps["fast"] < gaps["free"] < 0.1 * gaps["plain"]


def test_nonnegative_least_squares():
    from scipy.optimize import nnls

    expected = 0.5 * nnls(X, Y)[1] ** 2 / len(Y)
    tx = gx.proximal(gx.projection_non_negative, 1 / LIPSCHITZ, acceleration=True)
    projected = gx.chain(gx.sgd(1 / LIPSCHITZ), gx.keep_params_nonnegative())
    for method, steps in ((tx, 300), (projected, 3000)):
        found = run(least_squares, method, jnp.zeros(10), steps)
        assert (found >= 0).all()
        assert abs(least_squares(found) - expected) < 1e-6


def test_the_dual_of_a_support_vector_machine():
    from sklearn.svm import SVC

    data = load_breast_cancer()
    features = ((data.data - data.data.mean(0)) / data.data.std(0))[::4]
    signs = 2.0 * data.target[::4] - 1
    squares = np.sum((features[:, None] - features[None]) ** 2, axis=-1)
    kernel = np.exp(-squares / 30)
    quadratic = signs[:, None] * kernel * signs[None]

    def objective(a):
        return 0.5 * a @ (quadratic @ a) - jnp.sum(a)

    model = SVC(C=1.0, gamma=1 / 30, tol=1e-9).fit(features, signs)
    theirs = np.zeros(len(signs))
    theirs[model.support_] = np.abs(model.dual_coef_[0])
    rate = 1 / float(np.linalg.eigvalsh(quadratic)[-1])
    tx = gx.proximal(gx.projection_box_section, rate, 0.0, 1.0, jnp.asarray(signs), 0.0, acceleration=True)
    found = run(objective, tx, jnp.zeros(len(signs)), 2000)
    assert abs(found @ signs) < 1e-10
    assert ((found >= -1e-15) & (found <= 1 + 1e-15)).all()
    assert abs(objective(found) - objective(theirs)) < 1e-6 * abs(objective(theirs))


@pytest.mark.heavy
def test_a_portfolio():
    rng = np.random.default_rng(0)
    cvxpy = pytest.importorskip("cvxpy")
    factors = rng.normal(size=(20, 60)) * 0.1
    covariance = factors @ factors.T / 60
    means = rng.uniform(0.0, 0.1, size=20) * 0.01

    def risk(w):
        return 50 * w @ covariance @ w - 10 * means @ w

    w = cvxpy.Variable(20)
    problem = cvxpy.Problem(
        cvxpy.Minimize(50 * cvxpy.quad_form(w, cvxpy.psd_wrap(covariance)) - 10 * means @ w),
        [cvxpy.sum(w) == 1, w >= 0],
    )
    expected = problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_feas=1e-10)
    start, rate = jnp.full(20, 0.05), 1 / float(100 * np.linalg.eigvalsh(covariance)[-1])
    for tx, steps in (
        (gx.chain(gx.sgd(rate), gx.project(gx.projection_simplex)), 2000),
        (gx.proximal(gx.projection_simplex, rate, acceleration=True), 300),
        (gx.mirror_descent(2.0), 6000),
    ):
        assert abs(risk(run(risk, tx, start, steps)) - expected) < 1e-6
    # The Frank-Wolfe method zigzags: its gap falls as 1 / t.
    assert abs(risk(run(risk, gx.frank_wolfe(gx.oracle_simplex), start, 20_000)) - expected) < 1e-3
    result = gx.augmented_lagrangian(risk, start, inequality=jnp.negative, equality=lambda w: jnp.sum(w) - 1)
    assert result.status == gx.Status.converged
    assert abs(result.value - expected) < 1e-6


@pytest.mark.heavy
def test_optimal_transport():
    rng = np.random.default_rng(0)
    cvxpy = pytest.importorskip("cvxpy")
    cost = rng.uniform(size=(5, 6))
    a, b = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(6))
    plan = cvxpy.Variable((5, 6))
    constraints = [cvxpy.sum(plan, axis=1) == a, cvxpy.sum(plan, axis=0) == b, plan >= 0]
    expected = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.multiply(cost, plan))), constraints).solve(
        solver="CLARABEL"
    )
    result = gx.augmented_lagrangian(
        lambda p: jnp.sum(cost * p),
        jnp.asarray(np.outer(a, b)),
        inequality=jnp.negative,
        equality=lambda p: (jnp.sum(p, axis=1) - a, jnp.sum(p, axis=0)[1:] - b[1:]),
    )
    assert result.status == gx.Status.converged, result.message
    assert abs(result.value - expected) < 1e-6


# --- manifolds, oracles


@pytest.mark.heavy
def test_the_leading_eigenvector_and_subspace():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(8, 8))
    a = a @ a.T
    values, vectors = np.linalg.eigh(a)
    x = run(lambda x: -x @ a @ x, gx.chain(gx.sgd(0.02), gx.riemannian()), jnp.ones(8) / 8**0.5, 2000)
    np.testing.assert_allclose(np.abs(x @ vectors[:, -1]), 1.0, rtol=1e-10)
    for retraction in ("polar", "qr"):
        tx = gx.chain(gx.sgd(0.01), gx.riemannian("stiefel", retraction=retraction))
        q = run(lambda q: -jnp.trace(q.T @ a @ q), tx, jnp.eye(8, 3), 3000)
        np.testing.assert_allclose(jnp.trace(q.T @ a @ q), values[-3:].sum(), rtol=1e-8)
        wide = run(lambda q: -jnp.trace(q @ a @ q.T), tx, jnp.eye(3, 8), 3000)
        np.testing.assert_allclose(wide @ wide.T, np.eye(3), atol=1e-13)


@pytest.mark.heavy
def test_oracles_find_the_smallest_inner_product():
    rng = np.random.default_rng(0)
    g = jnp.asarray(rng.normal(size=(4, 3)))
    singular = np.linalg.svd(g, compute_uv=False)
    for oracle, data, expected in (
        (gx.oracle_simplex, (2.0,), 2 * float(jnp.min(g))),
        (gx.oracle_l1_ball, (2.0,), -2 * float(jnp.max(jnp.abs(g)))),
        (gx.oracle_l2_ball, (2.0,), -2 * float(jnp.linalg.norm(g))),
        (gx.oracle_linf_ball, (2.0,), -2 * float(jnp.sum(jnp.abs(g)))),
        (gx.oracle_nuclear_ball, (2.0,), -2 * float(singular[0])),
        (gx.oracle_box, (-1.0, 2.0), float(jnp.sum(jnp.where(g > 0, -g, 2 * g)))),
    ):
        s = oracle(g, *data)
        np.testing.assert_allclose(jnp.sum(g * s), expected, rtol=1e-8)
        batch = jax.vmap(lambda g, oracle=oracle, data=data: oracle(g, *data))(jnp.stack([g, -g, 0 * g]))
        close(batch[0], s, rtol=1e-12, atol=1e-15)
        assert np.isfinite(batch).all()
        assert oracle(g.astype("bfloat16"), *data).dtype == jnp.bfloat16
        assert oracle(jnp.zeros((0, 3)), *data).shape == (0, 3)
        huge = oracle(1e300 * g, *data)
        close(huge, s, rtol=1e-10, atol=1e-12)


def test_leading_singular_vectors_are_found_whatever_the_first_row():
    a = jnp.asarray([[1.3, 0.0, 0.0], [0.0, 0.9, 0.9], [0.0, 0.9, 0.9]])
    found = gx.oracle_nuclear_ball(a)
    np.testing.assert_allclose(jnp.sum(a * found), -1.8, rtol=1e-12)


def test_minimize_begins_in_the_set_and_stops_where_no_descent_stays_in_it():
    """At the solution of a constrained problem the gradient is not zero, but its projection onto feasible directions
    is."""
    target = jnp.array([2.0, 0.5, -1.0])

    def loss(x):
        return jnp.sum((x - target) ** 2) / 2

    start = jnp.array([5.0, 5.0, 5.0])
    for last, nearest in (
        (gx.project(gx.projection_simplex), gx.projection_simplex(target)),
        (gx.project(gx.projection_l2_ball, 1.0), target / jnp.linalg.norm(target)),
        (gx.clip_params(0.0, 1.0), jnp.clip(target, 0.0, 1.0)),
        (gx.keep_params_nonnegative(mask=True), jnp.maximum(target, 0)),
    ):
        result = gx.minimize(loss, start, gx.chain(gx.sgd(0.5), last))
        assert result.status == gx.Status.converged, result.message
        np.testing.assert_allclose(result.params, nearest, atol=1e-7)
        assert result.steps < 60
