"""L-BFGS-B finds scipy's optima and never leaves the box; `minimize` with bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import gradtx as gx

pytestmark = pytest.mark.heavy  # the step takes long to compile

INF = np.inf


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def quadratic(n, condition, seed):
    """Returns x^T A x / 2 - b^T x with a random symmetric positive definite A of the given condition number."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    a, b = jnp.asarray(q @ np.diag(np.geomspace(1, condition, n)) @ q.T), jnp.asarray(5 * rng.normal(size=n))
    return lambda x: x @ a @ x / 2 - b @ x


def squares(m, n, seed):
    """Returns half the sum of squares of m residuals of n unknowns."""
    rng = np.random.default_rng(seed)
    a, y = jnp.asarray(rng.normal(size=(m, n))), jnp.asarray(rng.normal(size=m))
    return lambda x: jnp.sum((a @ x - y) ** 2) / 2


def wood(x):
    first = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + 90 * (x[3] - x[2] ** 2) ** 2 + (1 - x[2]) ** 2
    return first + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2) + 19.8 * (x[1] - 1) * (x[3] - 1)


def mixed(n):
    """Returns bounds of four kinds in turn: lower, none, both, upper."""
    kind = np.arange(n) % 4
    return np.select([kind == 0, kind == 2], [0.2, -0.5], -INF), np.select([kind == 2, kind == 3], [0.6, 0.3], INF)


# Function, start, bounds, and how many entries of the optimum lie on a bound.
PROBLEMS = {
    "rosenbrock, 2": (rosenbrock, np.array([-1.2, 0.2]), -INF, 0.5, 1),
    "rosenbrock, 2, a corner": (rosenbrock, np.array([0.3, 1.7]), np.array([-2.0, 1.5]), np.array([0.8, 3.0]), 2),
    "rosenbrock, 5": (rosenbrock, np.full(5, -1.2), -INF, np.array([0.5, 2.0, 2.0, 2.0, 2.0]), 1),
    "rosenbrock, 25": (rosenbrock, np.full(25, 0.25), *mixed(25), None),
    "rosenbrock, free": (rosenbrock, np.full(10, -1.2), -INF, INF, 0),
    "rosenbrock, fixed": (rosenbrock, np.array([0.0, 1.0, 0.5, 0.0]), np.array([-1.0, 1.0, -3.0, 0.0]),
                          np.array([2.0, 1.0, 3.0, 0.0]), 2),
    "quadratic, 20": (quadratic(20, 1e2, 0), np.zeros(20), -0.1, 0.2, None),
    "quadratic, 40": (quadratic(40, 1e3, 1), np.zeros(40), -0.03, 0.05, None),
    "quadratic, 100": (quadratic(100, 1e4, 2), np.zeros(100), -0.02, 0.02, None),
    "non-negative least squares": (squares(30, 12, 3), np.ones(12), 0.0, INF, None),
    "underdetermined": (squares(6, 12, 4), np.full(12, 0.5), 0.0, 1.0, None),
    "wood": (wood, np.array([-3.0, -1.0, -3.0, -1.0]), -10.0, np.array([10.0, 0.9, 0.7, 10.0]), None),
}  # fmt: skip


QUICK = ("rosenbrock, 5", "quadratic, 40", "non-negative least squares")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.heavy) for n in PROBLEMS])
def test_the_optimum_is_that_of_scipy(name):
    f, x0, lower, upper, active = PROBLEMS[name]
    lower, upper = np.broadcast_to(lower, x0.shape), np.broadcast_to(upper, x0.shape)
    found = gx.minimize(f, jnp.asarray(x0), gx.lbfgsb(lower, upper))
    assert found.status in (gx.Status.converged, gx.Status.stalled), found.message
    value_and_grad = jax.jit(jax.value_and_grad(f))
    expected = scipy.optimize.minimize(
        lambda x: tuple(np.asarray(part, float) for part in value_and_grad(x)),
        x0,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(lower, upper, strict=True)),
        options={"ftol": 0, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10000},
    )
    assert found.value <= expected.fun + 1e-8 * max(abs(expected.fun), 1e-8)
    x = np.asarray(found.params)
    assert ((lower <= x) & (x <= upper)).all()
    if name != "underdetermined":
        np.testing.assert_allclose(x, expected.x, rtol=1e-6, atol=1e-7)
    on = ((x == lower) | (x == upper)).sum()
    if active is None:
        assert on >= len(x) // 4
    else:
        assert on == active
    assert found.steps <= 2 * expected.nit + 20


@pytest.mark.parametrize(
    "search",
    [
        gx.scale_by_zoom_linesearch(20),
        gx.scale_by_hager_zhang_linesearch(20),
        gx.scale_by_backtracking_linesearch(30),
        None,
    ],
    ids=["zoom", "hager_zhang", "backtracking", "none"],
)
@pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("float64", marks=pytest.mark.heavy), pytest.param("bfloat16", marks=pytest.mark.heavy)],
)
def test_no_step_leaves_the_box(dtype, search):
    lower, upper = jnp.linspace(-0.3, 0.1, 8).astype(dtype), jnp.asarray([0.1, 3.3, 0.7] + 5 * [INF], dtype)
    a = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8)), "float32")
    tx = gx.lbfgsb(lower, upper, linesearch=search)

    def f(x):
        outside = jnp.any((x < lower) | (x > upper))
        x = x.astype("float32")
        return jnp.where(outside, jnp.nan, jnp.sum((a @ x) ** 2) - 3 * jnp.sum(x) + jnp.sum(x**4))

    def step(carry, _):
        x, state = carry
        value, grad = jax.value_and_grad(f)(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=f)
        x = gx.apply_updates(x, updates)
        return (x, state), (x, value)

    x0 = jnp.linspace(0.1, 3, 8).astype(dtype).clip(lower, upper)
    _, (path, values) = jax.jit(lambda: jax.lax.scan(step, (x0, tx.init(x0)), length=25))()
    assert ((path >= lower[None, :]) & (path <= upper[None, :])).all()
    assert np.isfinite(values).all()  # the function is never called outside of the box
    assert values[-1] < values[0]


def test_the_box_is_only_a_bound_where_it_binds():
    x = jnp.full(10, -1.2)
    free, bounded = gx.minimize(rosenbrock, x, gx.lbfgs()), gx.minimize(rosenbrock, x, gx.lbfgsb(-INF, INF))
    assert bounded.status == gx.Status.converged
    assert bounded.evaluations <= 1.3 * free.evaluations


def test_starts_in_a_batch_and_outside_of_the_box():
    starts = jnp.asarray(3 * np.random.default_rng(0).normal(size=(6, 3)))
    tx = gx.lbfgsb(jnp.array([0.2, -1.0, 0.1]), 0.7)
    batch = jax.jit(jax.vmap(lambda x: gx.minimize(rosenbrock, x, tx)))(starts)
    assert (batch.status == gx.Status.converged).all()
    np.testing.assert_allclose(batch.params, jnp.tile(batch.params[:1], (6, 1)), rtol=1e-7)
    for i in range(2):
        np.testing.assert_allclose(batch.params[i], gx.minimize(rosenbrock, starts[i], tx).params, rtol=1e-8)
    # Over bounds, too.
    uppers = jnp.array([0.3, 0.5, 2.0])
    ends = jax.vmap(lambda u: gx.minimize(rosenbrock, jnp.zeros(3), gx.lbfgsb(-1.0, u)).params)(uppers)
    np.testing.assert_allclose(ends[:, 0], [0.3, 0.5, 1.0], rtol=1e-8)


def test_without_minimize_the_first_step_leads_into_the_box():
    tx, x = gx.lbfgsb(0.2, 0.8), jnp.array([5.0, -7.0, 0.5])
    state = tx.init(x)
    for _ in range(2):
        value, grad = jax.value_and_grad(rosenbrock)(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=rosenbrock)
        x = gx.apply_updates(x, updates)
        assert ((x >= 0.2 - 1e-15) & (x <= 0.8 + 1e-15)).all()


def test_bounds_are_trees_that_fit():
    params = {"a": jnp.full((2, 2), 0.7), "b": [jnp.array([0.3, 0.9]), None]}

    def f(p):
        return jnp.sum((p["a"] - 3) ** 2) + jnp.sum((p["b"][0] + 2) ** 2)

    lower = {"a": 0.1, "b": [np.array([-1.0, -INF]), None]}
    found = gx.minimize(f, params, gx.lbfgsb(lower, {"a": np.array([1.0, 2.0]), "b": 4}))
    np.testing.assert_allclose(found.params["a"], [[1, 2], [1, 2]])
    np.testing.assert_allclose(found.params["b"][0], [-1, -2], rtol=1e-7)
    assert found.grad_norm <= 1e-8
    assert gx.tree.norm(jax.grad(f)(found.params)) > 1  # the bounds hold against it
    wrapped = gx.with_metrics(gx.chain(gx.identity(), gx.lbfgsb(-1.0, 1.0)))
    again = gx.minimize(f, params, wrapped)
    assert again.status == gx.Status.converged
    np.testing.assert_allclose(again.params["a"], 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: gx.lbfgsb("no", 1.0), TypeError, "lbfgsb: lower must be a number"),
        (lambda x: gx.lbfgsb(float("nan"), 1.0), ValueError, "lower is NaN"),
        (lambda x: gx.lbfgsb(0.0, {"a": lambda t: t}), TypeError, r"upper\['a'\] must be a number"),
        (lambda x: gx.lbfgsb(1.0, 0.0), ValueError, "lower is 1.0 and upper is 0.0"),
        (lambda x: gx.lbfgsb(0.0, 1.0, 0), ValueError, "memory_size must be"),
        (
            lambda x: gx.lbfgsb(0.0, jnp.ones(3)).init(x),
            ValueError,
            r"upper has shape \(3,\) and params has shape \(2,",
        ),
        (lambda x: gx.lbfgsb(0.0, {"b": 1.0}).init({"a": x}), ValueError, "the tree of upper is not the tree of param"),
        (lambda x: gx.lbfgsb(0.0, 1.0).init(1j * x), TypeError, "no meaning for complex"),
        (lambda x: gx.lbfgsb(0.0, 1.0).update(x, gx.lbfgsb(0.0, 1.0).init(x)), ValueError, "needs `params`"),
        (lambda x: gx.lbfgsb(0.0, 1.0).update(x, gx.lbfgsb(0.0, 1.0).init(x), x), ValueError, "needs `value`"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.ones(2))


@pytest.mark.heavy
def test_in_float32():
    for name in ("rosenbrock, 5", "wood"):
        f, x0, lower, upper, _ = PROBLEMS[name]
        wide = gx.minimize(f, jnp.asarray(x0), gx.lbfgsb(lower, upper))
        found = gx.minimize(f, jnp.asarray(x0, "float32"), gx.lbfgsb(lower, upper), tol=1e-3)
        assert found.status == gx.Status.converged
        assert found.params.dtype == jnp.float32
        np.testing.assert_allclose(found.params, wide.params, atol=1e-3)
