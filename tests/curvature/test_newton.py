"""Newton's method with the Hessian, its absolute value, its diagonal, squared Jacobians, and without a matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gradtx as gx
from tests.cases import close, finite

pytestmark = pytest.mark.heavy  # minutes of compilation

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(5, 5))
MATRIX = jnp.asarray(ROOT @ ROOT.T + np.eye(5))
TARGET = {"w": jnp.asarray(RNG.normal(size=(2, 2))), "rest": [None, jnp.asarray(0.3), jnp.zeros((0, 2))]}
START = jax.tree.map(lambda x: x + 1, TARGET)
NEWTONS = [
    "newton()",
    "newton(hessian='absolute')",
    "newton_cg(forcing=1e-9, linesearch=None)",
    "trust_region_newton(1e3, forcing=1e-9)",
]


def make(expression):
    return eval(expression, dict(vars(gx)))


def quadratic(p):
    x = ravel_pytree(jax.tree.map(jnp.subtract, p, TARGET))[0]
    return x @ MATRIX @ x / 2


def bowl(x):
    """A strictly convex function with its minimum at 0."""
    return jnp.sum(jnp.exp(x) - x) + (jnp.sum(x)) ** 2 / 4


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def run(tx, f, x, steps, **extra):
    """Returns the parameters and states of some steps, in a single jitted function."""

    def step(carry, _):
        x, state = carry
        value, g = jax.value_and_grad(f)(x)
        updates, state = tx.update(g, state, x, value=value, grad=g, value_fn=f, **extra)
        x = gx.apply_updates(x, updates)
        return (x, state), (x, state)

    return jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps)[1])(x)


# --- the textbook


@pytest.mark.parametrize("expression", NEWTONS)
def test_a_quadratic_is_solved_in_one_step(expression):
    tx = make(expression)
    updates, _ = tx.update(jax.grad(quadratic)(START), tx.init(START), START, value_fn=quadratic)
    close(gx.apply_updates(START, updates), TARGET, rtol=1e-7, atol=1e-9)


def test_the_learning_rate_and_the_damping_are_those_of_the_formula():
    g = jax.grad(quadratic)(START)
    flat, unravel = ravel_pytree(g)
    for rate, damping in ((0.5, 0.0), (1.0, 3.0)):
        for kind in ("exact", "absolute"):
            tx = gx.newton(rate, hessian=kind, damping=damping)
            updates, state = tx.update(g, tx.init(START), START, value_fn=quadratic)
            expected = -rate * jnp.linalg.solve(MATRIX + damping * jnp.eye(5), flat)
            close(updates, unravel(expected), rtol=1e-10, atol=1e-12)
            assert state[0].damping == damping
    tx = gx.newton(gx.linear_schedule(1.0, 0.0, 2), damping=gx.linear_schedule(0.0, 8.0, 2))
    _, state = tx.update(g, tx.init(START), START, value_fn=quadratic)
    updates, state = tx.update(g, state, START, value_fn=quadratic)
    close(updates, unravel(-0.5 * jnp.linalg.solve(MATRIX + 4 * jnp.eye(5), flat)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("expression", ["newton()", "newton(hessian='absolute')", "newton(damping='adaptive')"])
def test_digits_double(expression):
    errors = np.abs(run(make(expression), bowl, jnp.full(4, 1.0), 9)[0]).max(1)
    if "adaptive" in expression:  # superlinear: the damping falls by a factor a step
        assert errors[-1] < 1e-13
        above = errors[(errors < 0.1) & (errors > 1e-12)]
        assert (np.diff(above[1:] / above[:-1]) < 0).all()
        return
    small = np.flatnonzero((errors < 0.1) & (errors > 1e-7))
    assert len(small) >= 2
    assert (errors[small + 1] < 2 * errors[small] ** 2).all(), errors
    assert errors[-1] < 1e-15


def test_newton_cg_converges_superlinearly_and_as_newton_does():
    points, states = run(gx.newton_cg(linesearch=None), bowl, jnp.full(4, 1.0), 9)
    errors = np.abs(points).max(1)
    assert errors[-1] < 1e-14
    assert (states[0].cg_steps <= 4).all()
    close(
        run(gx.newton_cg(forcing=1e-14, max_cg_steps=20, linesearch=None), bowl, jnp.arange(4.0), 5)[0],
        run(gx.newton(), bowl, jnp.arange(4.0), 5)[0],
        rtol=1e-8,
        atol=1e-10,
    )


# --- saddles


def saddles(x):
    """A function with minima of -1/4 at the corners of a square, saddles between them, and a maximum of 0 at 0."""
    return jnp.sum(x**4 / 4 - x**2 / 2) + 0.5


def test_saddles_draw_newton_in_and_repel_its_absolute_form():
    rng = np.random.default_rng(1)
    starts = jnp.asarray(rng.uniform(0.05, 0.4, size=(100, 2)) * rng.choice([-1, 1], size=(100, 2)))
    starts = starts.at[:, 0].set(jnp.sign(starts[:, 0]) * jnp.abs(starts[:, 0] + jnp.sign(starts[:, 0])))

    def ends(kind):
        return jax.jit(jax.vmap(lambda x: run(gx.newton(hessian=kind), saddles, x, 20)[0][-1]))(starts)

    saddle, minimum = ends("exact"), ends("absolute")
    np.testing.assert_allclose(np.abs(saddle), np.tile([1.0, 0.0], (100, 1)), atol=1e-12)
    np.testing.assert_allclose(np.abs(minimum), np.ones((100, 2)), atol=1e-12)
    np.testing.assert_array_equal(np.sign(minimum), np.sign(starts))


def test_newton_cg_and_trust_regions_leave_saddles_too():
    starts = jnp.asarray(np.random.default_rng(2).uniform(-0.5, 0.5, size=(100, 2)))
    for tx in (gx.newton_cg(linesearch=gx.clip_by_global_norm(0.5)), gx.trust_region_newton(0.5)):
        points = jax.jit(jax.vmap(lambda x, tx=tx: run(tx, saddles, x, 40)[0][-1]))(starts)
        np.testing.assert_allclose(np.abs(points), np.ones((100, 2)), atol=1e-8)


# --- singular Hessians


def test_singular_hessians_give_no_nan():
    def valley(x):  # flat along (1, -1, 0) and along the last entry
        return (x[0] + x[1]) ** 2

    x = jnp.array([1.0, 2.0, 3.0])
    g = jax.grad(valley)(x)
    for expression in ("newton(hessian='absolute')", "newton()"):
        tx = make(expression)
        updates, _ = tx.update(g, tx.init(x), x, value_fn=valley)
        close(updates, jnp.array([-1.5, -1.5, 0.0]), rtol=1e-10, atol=1e-10)  # the shortest step to the floor
    for expression in NEWTONS:
        tx = make(expression)
        for f in (valley, lambda x: jnp.zeros(()), lambda x: x[0]):
            state = tx.init(x)
            zero, _ = tx.update(jnp.zeros(3), state, x, value_fn=f)
            np.testing.assert_array_equal(zero, np.zeros(3), err_msg=expression)
            assert finite(tx.update(jnp.array([1.0, 2.0, 3.0]), state, x, value_fn=f)), expression


def test_a_gradient_off_the_range_of_a_singular_hessian():
    """With eigenvalues there is no step along flat directions; conjugate gradients follow the negative gradient."""
    x, g = jnp.ones(2), jnp.array([3.0, 4.0])
    for expression, expected in (
        ("newton(hessian='absolute')", [-1.5, 0.0]),
        ("newton()", [-1.5, 0.0]),
        ("newton_cg(max_cg_steps=1, linesearch=None)", [-3 * 25 / 18, -4 * 25 / 18]),
    ):
        tx = make(expression)
        close(tx.update(g, tx.init(x), x, value_fn=lambda x: x[0] ** 2)[0], jnp.array(expected), rtol=1e-12)
    tx = gx.newton_cg(linesearch=None)
    close(tx.update(g, tx.init(x), x, value_fn=lambda x: -jnp.sum(x**2))[0], -g)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_extreme_gradients_give_finite_updates(dtype):
    info = jnp.finfo(dtype)
    x = jnp.ones(2, dtype)
    for entries in ([0, 0], [info.tiny, -float(info.tiny)], [info.max, -float(info.max)], [info.max, 0]):
        g = jnp.asarray(entries, dtype)
        for expression in [*NEWTONS, "newton(damping='adaptive')", "newton(damping=1e-30)"]:
            tx = make(expression)
            updates, state = jax.jit(lambda g, tx=tx: tx.update(g, tx.init(x), x, value_fn=lambda p: jnp.sum(p**3)))(g)
            assert finite((updates, state)), (expression, entries, updates)
            assert updates.dtype == dtype
            assert jax.tree.map(jnp.result_type, state) == jax.tree.map(jnp.result_type, tx.init(x))


def test_what_is_not_finite_stays_visible():
    x = jnp.ones(2)
    for expression in [*NEWTONS, "newton(damping='adaptive')"]:
        tx = make(expression)
        updates, _ = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(x), x, value_fn=lambda p: jnp.sum(p**2))
        assert jnp.isnan(updates).any(), expression
    for expression in NEWTONS[:2]:
        tx = make(expression)
        assert jnp.isnan(tx.update(x, tx.init(x), x, value_fn=lambda p: jnp.sum(p**2) * jnp.nan)[0]).all()


# --- residuals, damping, line searches


def residuals(x):
    """Returns the residuals whose squares sum to Rosenbrock's function."""
    return {"a": 10 * (x[1] - x[0] ** 2), "b": [1 - x[0]]}


def half_squares(x):
    return sum(jnp.sum(r**2) for r in jax.tree.leaves(residuals(x))) / 2


def test_gauss_newton_by_its_formula_and_to_the_minimum():
    x = jnp.array([-1.2, 1.0])
    tx = gx.newton(hessian="gauss_newton", damping=0.5)
    g = jax.grad(half_squares)(x)
    jacobian = jnp.array([[-20 * x[0], 10.0], [-1.0, 0.0]])
    updates, _ = tx.update(g, tx.init(x), x, residual_fn=residuals)
    close(updates, -jnp.linalg.solve(jacobian.T @ jacobian + 0.5 * jnp.eye(2), g), rtol=1e-10)
    close(
        run(gx.newton(hessian="gauss_newton"), half_squares, x, 3, residual_fn=residuals)[0][-1],
        jnp.ones(2),
        rtol=1e-12,
    )


@pytest.mark.parametrize("hessian", ["exact", "absolute", "gauss_newton"])
def test_adaptive_damping_descends_and_reports(hessian):
    tx = gx.newton(hessian=hessian, damping="adaptive")
    extra = {"residual_fn": residuals} if hessian == "gauss_newton" else {}
    points, states = run(tx, half_squares, jnp.array([-1.2, 1.0]), 60, **extra)
    values = np.asarray(jax.vmap(half_squares)(points))
    assert (np.diff(values) <= 1e-14).all()
    np.testing.assert_allclose(points[-1], np.ones(2), rtol=1e-10)
    dampings = np.asarray(states[0].damping)
    assert len(np.unique(dampings)) > 3
    assert dampings[-1] < 1e-6


def test_adaptive_damping_rejects_what_gains_nothing():
    tx = gx.newton(damping="adaptive")
    x = jnp.array([1e-4])
    updates, state = tx.update(jax.grad(jnp.cos)(x[0])[None], tx.init(x), x, value_fn=lambda x: jnp.cos(x[0]))
    np.testing.assert_array_equal(updates, [0.0])
    np.testing.assert_allclose(state[0].damping, 1e-2)


@pytest.mark.parametrize(
    "linesearch",
    [
        optax.scale_by_backtracking_linesearch(20),
        gx.scale(0.5),
        optax.scale_by_zoom_linesearch(20, initial_guess_strategy="one"),
    ],
    ids=["backtracking", "scale", "zoom"],
)
def test_a_line_search_comes_last(linesearch):
    x = jnp.array([-1.2, 1.0])
    for tx in (gx.newton(hessian="absolute", linesearch=linesearch), gx.newton_cg(forcing=0.01, linesearch=linesearch)):
        points, _ = run(tx, rosenbrock, x, 60)
        np.testing.assert_allclose(points[-1], np.ones(2), atol=1e-6)


# --- trust regions


HARD = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0, -1.2, 1.0], [1.0] * 4, 80),
    "far away": (rosenbrock, [-30.0, 50.0], [1.0] * 2, 300),
    "beale": (
        lambda x: sum((c - x[0] * (1 - x[1] ** k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
        [4.0, 4.0],
        [3.0, 0.5],
        200,
    ),
    "powell": (
        lambda x: (1e4 * x[0] * x[1] - 1) ** 2 + (jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001) ** 2,
        [0.0, 1.0],
        [1.0981593296997149e-05, 9.106146739865656],
        600,
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_trust_region_from_hard_starts(name):
    f, start, minimum, steps = HARD[name]
    points, states = run(gx.trust_region_newton(), f, jnp.asarray(start), steps)
    values = np.asarray(jax.vmap(f)(jnp.concatenate([jnp.asarray([start]), points])))
    assert (np.diff(values) <= 1e-12 * np.abs(values[:-1]) + 1e-20).all()
    assert (states.radius > 0).all()
    assert (states.radius <= 1000).all()
    np.testing.assert_allclose(points[-1], minimum, rtol=1e-6)


def test_the_radius_shrinks_and_the_step_is_zero_where_the_model_is_wrong():
    def cliff(x):
        return jnp.where(x[0] < 0.5, 100.0, x[0] ** 2 / 2)

    x, tx = jnp.ones(1), gx.trust_region_newton(2.0)
    updates, state = tx.update(x, tx.init(x), x, value_fn=cliff)
    np.testing.assert_array_equal(updates, [0.0])
    assert state.radius == 0.25
    updates, state = tx.update(x, state, x, value_fn=cliff)
    np.testing.assert_allclose(updates, [-0.25])
    assert state.radius == 0.5
    # On the border along negative curvature, and no farther than max_radius.
    tx = gx.trust_region_newton(2.0, 3.0)
    updates, state = tx.update(-x, tx.init(x), x, value_fn=lambda x: -jnp.sum(x**2) / 2)
    np.testing.assert_allclose(updates, [2.0])
    assert state.radius == 3.0
    updates, state = tx.update(x, tx.init(x), x, value_fn=lambda x: jnp.where(x[0] < 1, jnp.nan, jnp.sum(x**2)))
    np.testing.assert_array_equal(updates, [0.0])


# --- large problems, and a real one


def chained(x):
    """A convex function whose Hessian is tridiagonal."""
    return jnp.sum(jnp.cosh(x) - x / 2) + jnp.sum((x[1:] - x[:-1]) ** 2) / 2


def test_newton_cg_holds_a_few_vectors():
    """The compiled step's temporary memory, as a number of vectors of the size of the parameters."""

    def vectors(n):
        tx = gx.newton_cg(linesearch=None)
        x = jnp.zeros(n)
        step = jax.jit(lambda g, state, x: tx.update(g, state, x, value_fn=chained))
        compiled = step.lower(x, tx.init(x), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (8 * n)

    assert vectors(10_000) < 6
    assert abs(vectors(20_000) - vectors(10_000)) < 0.1


def test_newton_cg_solves_a_million_variables():
    n = 1_000_000
    tx = gx.newton_cg(forcing=0.1, linesearch=None)
    x = jnp.asarray(np.random.default_rng(0).normal(size=n))
    state = tx.init(x)

    @jax.jit
    def step(x, state):
        value, g = jax.value_and_grad(chained)(x)
        updates, state = tx.update(g, state, x, value=value, value_fn=chained)
        return gx.apply_updates(x, updates), state, jnp.abs(g).max()

    memory = step.lower(x, state).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 6 * 8 * n  # a matrix would be a million vectors
    for _ in range(14):
        x, state, size = step(x, state)
    assert size < 1e-10
    np.testing.assert_allclose(x, np.full(n, np.arcsinh(0.5)), atol=1e-9)


@pytest.mark.parametrize("expression", ["newton()", "newton_cg(linesearch=None)", "trust_region_newton()"])
def test_logistic_regression_has_the_coefficients_of_scikit_learn(expression):
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, y)

    def loss(p):
        logits = jnp.asarray(x) @ p["w"] + p["b"]
        return jnp.sum(jnp.logaddexp(0, -(2 * y - 1) * logits)) + jnp.sum(p["w"] ** 2) / 2

    tx = make(expression)
    points, _ = run(tx, loss, {"w": jnp.zeros(30), "b": jnp.zeros(())}, 25)
    np.testing.assert_allclose(points["w"][-1], theirs.coef_[0], atol=1e-4)
    np.testing.assert_allclose(points["b"][-1], theirs.intercept_[0], atol=1e-4)


# --- the diagonal


def test_the_diagonal_by_its_formula():
    g, h = jnp.array([1.0, 1.0, 1.0, 0.0]), jnp.array([4.0, -4.0, -0.1, 0.0])
    for absolute, expected in ((True, [0.25, 0.25, 2.0, 0.0]), (False, [0.25, -0.25, -2.0, 0.0])):
        tx = gx.scale_by_hessian_diag(0.5, absolute)
        close(tx.update(g, tx.init(g), hessian_diag=h)[0], jnp.array(expected))

    def f(p):
        return jnp.sum(jnp.array([1.0, 50.0]) * p["a"] ** 2) + 7 * p["b"] ** 2

    params = {"a": jnp.ones(2), "b": jnp.asarray(3.0)}
    tx = gx.chain(gx.scale_by_hessian_diag(), gx.scale_by_learning_rate(1.0))
    updates, _ = tx.update(jax.grad(f)(params), tx.init(params), hessian_diag=gx.hessian_diag(f, params))
    close(gx.apply_updates(params, updates), jax.tree.map(jnp.zeros_like, params), atol=1e-12)


def test_adahessian_by_its_formula():
    b1, b2, eps, power, rate, decay = 0.8, 0.9, 1e-3, 0.5, 0.15, 0.01
    tx = gx.adahessian(rate, b1, b2, eps, power, decay)
    grads, diagonals = RNG.normal(size=(2, 5, 4))
    x = np.ones(4)
    params, state, m, v = jnp.ones(4), tx.init(jnp.ones(4)), 0.0, 0.0
    for t, (g, h) in enumerate(zip(grads, diagonals, strict=True), 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * h**2
        x = x - rate * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) ** power + eps) + decay * x)
        updates, state = tx.update(jnp.asarray(g), state, params, hessian_diag=jnp.asarray(h))
        params = gx.apply_updates(params, updates)
        np.testing.assert_allclose(params, x, rtol=1e-12)
    masked = gx.adahessian(0.1, weight_decay=0.1, mask={"a": False})
    p = {"a": jnp.ones(2)}
    zero = {"a": jnp.zeros(2)}
    close(masked.update(zero, masked.init(p), p, hessian_diag=p)[0], zero)


# --- trees, transforms, derivatives, values


@pytest.mark.parametrize("params", [{}, None, 1.5, {"a": None, "b": [2.0]}, [jnp.ones((2, 0))]], ids=str)
@pytest.mark.parametrize("expression", [*NEWTONS, "newton(damping='adaptive')"])
def test_odd_trees(expression, params):
    def f(p):
        return sum((jnp.sum(jnp.asarray(x) ** 2) for x in jax.tree.leaves(p)), jnp.zeros(()))

    tx = make(expression)
    state = tx.init(params)
    updates, new = tx.update(params, state, params, value_fn=f)
    assert jax.tree.structure((updates, new)) == jax.tree.structure((params, state))
    for u, p in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(u, -np.asarray(p) / 2, rtol=1e-3)


@pytest.mark.parametrize("expression", [*NEWTONS, "newton(damping='adaptive')"])
def test_jit_and_vmap_agree_with_a_loop(expression):
    tx = make(expression)
    xs = jnp.asarray(RNG.uniform(0.5, 1.5, size=(3, 4)))

    def updated(x):
        return tx.update(jax.grad(bowl)(x), tx.init(x), x, value_fn=bowl)

    together = jax.jit(jax.vmap(updated))(xs)
    for i, x in enumerate(xs):
        close(jax.tree.map(lambda u, i=i: u[i], together), updated(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["exact", "absolute", "gauss_newton", "cg"])
def test_derivatives_are_right(kind):
    """Reverse-mode derivatives by parameters, gradient and damping or learning rate equal central differences."""

    def f(x):
        return jnp.sum(jnp.cosh(x)) - x[0] ** 2 + x[0] * x[1]

    def loss(point):
        x, g, number = point
        if kind == "cg":
            tx = gx.newton_cg(number, forcing=1e-14, max_cg_steps=9, linesearch=None)
            h = bowl
        else:
            tx, h = gx.newton(hessian=kind, damping=number), f
        u, _ = tx.update(g, tx.init(x), x, value_fn=h, **({"residual_fn": jnp.cosh} if kind == "gauss_newton" else {}))
        return jnp.sum(u * jnp.arange(1.0, 4.0))

    point = (jnp.array([0.1, 0.4, -0.3]), jnp.array([1.0, 2.0, 0.5]), jnp.asarray(0.2))
    found = jax.jit(jax.grad(loss))(point)
    flat, unravel = ravel_pytree(point)
    numeric = [(loss(unravel(flat + d)) - loss(unravel(flat - d))) / 2e-6 for d in 1e-6 * np.eye(7)]
    np.testing.assert_allclose(ravel_pytree(found)[0], numeric, rtol=1e-5, atol=1e-6)


def test_derivatives_where_eigenvalues_meet():
    x = jnp.ones(3)
    tx = gx.newton(hessian="absolute")
    g = jax.grad(lambda x: jnp.sum(tx.update(x, tx.init(x), x, value_fn=lambda x: jnp.sum(x**4))[0]))(x)
    np.testing.assert_allclose(g, 1 / 12 * np.ones(3), rtol=1e-12)  # -x / (12 x^2)
    for tx in (gx.newton(), gx.newton(hessian="absolute"), gx.newton_cg(linesearch=None)):
        zero = jnp.zeros(3)
        flat = jax.grad(lambda x, tx=tx: jnp.sum(tx.update(x, tx.init(x), x, value_fn=lambda x: jnp.sum(x**4))[0]))(
            zero
        )
        assert finite(flat), tx


def test_a_sweep_of_dampings_and_trust_regions_as_constants():
    x = jnp.arange(1.0, 4.0)
    g = jax.grad(bowl)(x)

    def length(damping):
        tx = gx.newton().replace(damping=damping)
        return jnp.linalg.norm(tx.update(g, tx.init(x), x, value_fn=bowl)[0])

    lengths = jax.vmap(length)(jnp.array([0.0, 1.0, 10.0]))
    assert (jnp.diff(lengths) < 0).all()
    tx = gx.trust_region_newton()
    found = jax.grad(lambda x: jnp.sum(x + tx.update(x, tx.init(x), x, value_fn=bowl)[0]))(x)
    np.testing.assert_array_equal(found, np.ones(3))


@pytest.mark.parametrize(
    "tx",
    [
        gx.newton(0.5, hessian="absolute", damping=0.1, linesearch=gx.scale(0.5)),
        gx.newton(damping="adaptive"),
        gx.newton_cg(max_cg_steps=5),
        gx.trust_region_newton(2.0),
        gx.adahessian(0.1),
        gx.scale_by_hessian_diag(),
        gx.scale_by_adahessian(),
    ],
    ids=repr,
)
def test_they_are_values(tx):
    assert eval(repr(tx), dict(vars(gx))) == tx
    assert hash(tx.replace()) == hash(tx)
    for name, value in gx.hyperparameters(tx).items():
        assert gx.hyperparameters(tx.replace(**{name: value}))[name] == value


def test_one_step_one_call():
    """With `value_and_step`, which passes the function; also in float32."""
    for expression in NEWTONS:
        tx = make(expression)
        step = jax.jit(gx.value_and_step(lambda p, shift: bowl(p["x"] - shift), tx), donate_argnums=(0, 1))
        params = {"x": jnp.full(4, 2.0, jnp.float32)}
        state = tx.init(params)
        for _ in range(10):
            params, state, _ = step(params, state, jnp.float32(1))
        np.testing.assert_allclose(params["x"], np.ones(4), rtol=1e-5)


# --- bad calls

P = jnp.ones(2)


def updated(tx, updates=P, params=P, state=None, **extra):
    return tx.update(updates, tx.init(P) if state is None else state, params, **extra)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gx.newton(hessian="bfgs"), ValueError, r"hessian must be one of 'exact', 'absolute', 'gauss_newton'"),
        (lambda: gx.newton(damping=-1.0), ValueError, r"newton: damping must be in \[0, inf\)"),
        (lambda: gx.newton(damping="auto"), ValueError, r"newton: damping must be one of 'adaptive', got 'auto'"),
        (lambda: gx.newton(-1.0), ValueError, r"learning_rate must be in"),
        (lambda: gx.newton(linesearch=3), TypeError, r"expected gradient transformations, got 3"),
        (lambda: gx.newton_cg(forcing=1.0), ValueError, r"forcing must be in \(0, 1\)"),
        (lambda: gx.newton_cg(max_cg_steps=0), ValueError, r"max_cg_steps must be an integer of at least 1"),
        (lambda: gx.trust_region_newton(0.0), ValueError, r"radius must be in \(0, inf\)"),
        (lambda: gx.trust_region_newton(eta=0.5), ValueError, r"eta must be in \[0, 0.25\]"),
        (lambda: gx.adahessian(0.1, hessian_power=2.0), ValueError, r"hessian_power must be in \[0, 1\]"),
        (lambda: gx.scale_by_hessian_diag(floor=0.0), ValueError, r"floor must be in \(0, inf\)"),
        (lambda: updated(gx.newton()), ValueError, r"scale_by_newton.update needs `value_fn`, which is missing"),
        (lambda: updated(gx.newton_cg(), params=None), ValueError, r"scale_by_newton_cg.update needs `params`"),
        (lambda: updated(gx.trust_region_newton()), ValueError, r"trust_region_newton.update needs `value_fn`"),
        (lambda: updated(gx.newton(hessian="gauss_newton"), value_fn=jnp.sum), ValueError, r"needs `residual_fn`"),
        (
            lambda: updated(gx.newton(), value_fn=3.0),
            TypeError,
            r"value_fn must be a function of the parameters, got 3.0",
        ),
        (lambda: updated(gx.newton(), value_fn=lambda p: p), ValueError, r"the function must return one number"),
        (lambda: updated(gx.newton(), valeu_fn=jnp.sum), TypeError, r"unknown extra argument 'valeu_fn'"),
        (lambda: updated(gx.newton(), P[:1], value_fn=jnp.sum), ValueError, r"updates has shape \(1,\) and params has"),
        (lambda: updated(gx.newton(), {"a": P}, value_fn=jnp.sum), ValueError, r"the tree of updates is not the tree"),
        (lambda: updated(gx.newton_cg(linesearch=None), P * 1j, P * 1j, value_fn=jnp.sum), TypeError, r"complex"),
        (lambda: gx.newton().init(P * 1j), TypeError, r"scale_by_newton: .*no meaning for complex arrays"),
        (lambda: gx.trust_region_newton().init(P * 1j), TypeError, r"trust_region_newton: .*complex"),
        (lambda: gx.newton_cg().init(P * 1j), TypeError, r"scale_by_newton_cg: .*complex"),
        (lambda: gx.newton().init(jnp.arange(2)), TypeError, r"only floating"),
        (
            lambda: updated(gx.trust_region_newton(), state=(), value_fn=jnp.sum),
            TypeError,
            r"must be a TrustRegionState",
        ),
        (lambda: updated(gx.scale_by_hessian_diag()), ValueError, r"scale_by_hessian_diag.update needs `hessian_diag`"),
        (
            lambda: updated(gx.adahessian(0.1), hessian_diag={"a": P}),
            ValueError,
            r"scale_by_adahessian: the tree of hess",
        ),
        (lambda: updated(gx.adahessian(0.1), hessian_diag=P[:1]), ValueError, r"hessian_diag has shape \(1,\)"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
