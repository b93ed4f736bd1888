"""Multipliers, penalties and the augmented Lagrangian on problems with known solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from tests.cases import close
from tests.hock_schittkowski import PROBLEMS

TARGET = jnp.asarray([2.0, 0.5, -1.0])


def distance(x):
    return 0.5 * jnp.sum((x - TARGET) ** 2)


def below_one(x):
    return {"each": x - 1, "sum": jnp.sum(x) - 1}


def balanced(x):
    return x[0] - 2 * x[1]


PROBLEM = gx.lagrangian(distance, inequality=below_one, equality=balanced)


def train(problem, tx, x0, steps, has_aux=False):
    """Returns the final point and state, and the metrics and multipliers of every step."""
    step = gx.value_and_step(problem, tx, has_aux=has_aux)

    def body(carry, _):
        point, state, *_ = step(*carry)
        return (point, state), (gx.metrics(state), point)

    point = problem.init(x0)
    return jax.jit(lambda: jax.lax.scan(body, (point, tx.init(point)), length=steps))()


def test_the_first_point_has_multipliers_like_the_constraints():
    point = PROBLEM.init(jnp.zeros(3, "bfloat16"))
    shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), point.multipliers)
    assert shapes["inequality"] == {"each": ((3,), "float32"), "sum": ((), "float32")}
    assert gx.lagrangian(distance, inequality=below_one).init(TARGET).multipliers["equality"] == ()
    assert gx.lagrangian(distance, equality=balanced).init(TARGET).multipliers["inequality"] == ()
    assert jax.eval_shape(PROBLEM.init, TARGET).params.shape == (3,)


def test_the_lagrangian_is_the_loss_and_the_inner_products():
    multipliers = {"inequality": {"each": jnp.asarray([1.0, 2.0, 3.0]), "sum": jnp.asarray(4.0)}, "equality": -5.0}
    x = jnp.asarray([0.1, 0.2, 0.3])
    expected = distance(x) + multipliers["inequality"]["each"] @ (x - 1) + 4 * (jnp.sum(x) - 1) - 5 * (x[0] - 2 * x[1])
    point = gx.LagrangianPoint(x, multipliers)
    np.testing.assert_allclose(PROBLEM(point), expected, rtol=1e-14)
    grads = jax.grad(PROBLEM)(point)
    close(grads.multipliers["inequality"], below_one(x))
    assert jax.jit(lambda problem, point: problem(point))(PROBLEM, point) == PROBLEM(point)


@pytest.mark.parametrize(
    "rate", [0.1, gx.constant_schedule(0.1), gx.sgd(0.05, momentum=0.5)], ids=["number", "schedule", "momentum"]
)
def test_descent_and_ascent_find_the_saddle(rate):
    tx = PROBLEM.optimizer(gx.sgd(0.2), multiplier_rate=rate)
    (point, state), (metrics, points) = train(PROBLEM, tx, jnp.zeros(3), 1500)
    x, alpha = point.params, point.multipliers["inequality"]
    np.testing.assert_allclose(x, [1.0, 0.5, -1.0], atol=2e-3)
    np.testing.assert_allclose(alpha["each"], [1.0, 0, 0], atol=2e-2)
    for leaf in jax.tree.leaves(points.multipliers["inequality"]):
        assert (leaf >= 0).all()
    assert metrics["violation"][0] == 0 or metrics["violation"].max() > 1e-2
    np.testing.assert_allclose(gx.metrics(state)["violation"], 0, atol=2e-3)
    np.testing.assert_allclose(gx.metrics(state)["complementary_slackness"], 0, atol=5e-3)


def test_metrics_are_those_at_the_point_of_the_gradient():
    tx = PROBLEM.optimizer(gx.adam(0.1))
    point = PROBLEM.init(TARGET)._replace(
        multipliers={"inequality": {"each": jnp.ones(3), "sum": jnp.asarray(2.0)}, "equality": jnp.asarray(0.0)}
    )
    _, state = tx.update(jax.grad(PROBLEM)(point), tx.init(point), point)
    found, expected = gx.metrics(state), PROBLEM.metrics(point)
    assert {name: float(x) for name, x in found.items()} == {name: float(x) for name, x in expected.items()}
    assert found["violation"] == PROBLEM.violation(TARGET) == 1.0
    assert found["complementary_slackness"] == 2.0


def test_multipliers_stay_nonnegative_exactly():
    rng = np.random.default_rng(0)
    problem = gx.lagrangian(distance, inequality=lambda x: x)
    tx = problem.optimizer(gx.sgd(0.1), multiplier_rate=gx.sgd(0.7))
    for dtype in ("float32", "float64"):
        alpha = jnp.asarray(np.abs(rng.normal(size=(100, 3))) * 10.0 ** rng.integers(-5, 5, size=(100, 3)), dtype)
        g = jnp.asarray(rng.normal(size=(100, 3)) * 10.0 ** rng.integers(-5, 5, size=(100, 3)), dtype)

        def step(alpha, g):
            point = gx.LagrangianPoint(g, {"inequality": alpha, "equality": ()})
            updates, _ = tx.update(gx.LagrangianPoint(g, {"inequality": g, "equality": ()}), tx.init(point), point)
            return gx.apply_updates(point, updates).multipliers["inequality"]

        new = jax.jit(jax.vmap(step))(alpha, g)
        assert (new >= 0).all()
        assert (new == 0).any()
        np.testing.assert_allclose(new, np.maximum(alpha + 0.7 * g, 0), rtol=1e-5, atol=1e-5)


def test_batches_aux_and_inner_transformations_that_need_more():
    def loss(x, batch, scale=1.0):
        return scale * jnp.mean((x - batch) ** 2), jnp.max(x)

    problem = gx.lagrangian(loss, equality=lambda x: x - 1, has_aux=True)
    tx = problem.optimizer(gx.polyak_sgd(0.1), multiplier_rate=gx.linear_schedule(0.5, 0.1, 10))
    step = jax.jit(gx.value_and_step(problem, tx, has_aux=True))
    point = problem.init(jnp.zeros(()))
    point, state, value, aux = step(point, tx.init(point), jnp.arange(3.0))
    np.testing.assert_allclose((value, aux), (5 / 3, 0.0))
    np.testing.assert_allclose(point.multipliers["equality"], -0.5)
    rate = gx.hyperparameters(tx, state)["dual.scale_by_learning_rate.learning_rate"]
    np.testing.assert_allclose(rate, 0.46)
    searching = gx.lagrangian(distance, inequality=below_one).optimizer(gx.lbfgs(), multiplier_rate=0.1)
    problem = gx.lagrangian(distance, inequality=below_one)
    (point, _), _ = train(problem, searching, jnp.zeros(3), 200)
    np.testing.assert_allclose(point.params, [1.0, 0.5, -1.0], atol=1e-3)


def test_what_is_no_problem_or_point_is_refused():
    with pytest.raises(ValueError, match="no constraints"):
        gx.lagrangian(distance)
    with pytest.raises(TypeError, match="inequality must be a function"):
        gx.lagrangian(distance, inequality=3)
    with pytest.raises(TypeError, match=r"equality\(params\) returned.*dtype int"):
        gx.lagrangian(distance, equality=lambda x: jnp.arange(3)).init(TARGET)
    tx = PROBLEM.optimizer(gx.sgd(0.1))
    point = PROBLEM.init(TARGET)
    with pytest.raises(TypeError, match="LagrangianPoint"):
        PROBLEM(TARGET)
    with pytest.raises(TypeError, match="LagrangianPoint"):
        tx.init(TARGET)
    with pytest.raises(TypeError, match="LagrangianPoint"):
        tx.update(TARGET, tx.init(point), point)
    with pytest.raises(ValueError, match="needs `params`"):
        tx.update(point, tx.init(point))


@pytest.mark.parametrize("kind", ["quadratic", "exact"])
def test_penalties(kind):
    problem = gx.penalty(distance, 10.0, inequality=below_one, equality=balanced, kind=kind)
    x = jnp.asarray([3.0, 0.5, -1.0])
    terms = {"quadratic": (4 + 2.25 + 4) / 2, "exact": 2 + 1.5 + 2}
    np.testing.assert_allclose(problem(x), distance(x) + 10 * terms[kind], rtol=1e-14)
    assert problem.violation(x) == 2.0
    traces = []
    run = jax.jit(lambda p: traces.append(1) or p(x))
    for weight in (1.0, 2.0):
        np.testing.assert_allclose(run(problem.replace(weight=weight)), distance(x) + weight * terms[kind])
    assert len(traces) == 1
    assert jnp.isnan(problem(jnp.asarray([jnp.nan, 0, 0])))
    inside = jnp.asarray([0.5, 0.25, 0.0])
    assert problem(inside) == distance(inside)


@pytest.mark.heavy
def test_a_growing_quadratic_penalty_approaches_the_solution():
    found = []
    x = jnp.zeros(3)
    for weight in (1.0, 100.0, 1e4):
        x = gx.minimize(gx.penalty(distance, weight, inequality=below_one, equality=balanced), x).params
        found.append(float(jnp.max(jnp.abs(x - jnp.asarray([1.0, 0.5, -1.0])))))
    assert found[2] < 1e-3 < found[1] < 0.1 < found[0]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("number", [n if n in (7, 71) else pytest.param(n, marks=pytest.mark.heavy) for n in PROBLEMS])
def test_problems_of_hock_and_schittkowski(number):
    loss, inequality, equality, start, value = PROBLEMS[number]
    result = gx.augmented_lagrangian(loss, jnp.asarray(start), inequality=inequality, equality=equality)
    assert result.status == gx.Status.converged, result.message
    assert abs(result.value - value) < 1e-5
    assert result.violation < 1e-5
    assert result.complementary_slackness < 1e-5
    assert gx.metrics(result)["violation"] == result.violation
    for alpha in jax.tree.leaves(result.multipliers["inequality"]):
        assert (alpha >= 0).all()


def test_the_multipliers_are_those_of_the_problem_as_given():
    """The gradient of the Lagrangian vanishes, though the solver scales the functions."""
    result = gx.augmented_lagrangian(
        lambda x: 1e3 * distance(x), TARGET, inequality=lambda x: 50 * below_one(x)["each"], tol=1e-8
    )
    assert result.status == gx.Status.converged
    np.testing.assert_allclose(result.multipliers["inequality"], [20.0, 0, 0], atol=1e-5)


@pytest.mark.heavy
def test_starts_in_a_batch():
    def solve(x, level):
        return gx.augmented_lagrangian(
            lambda x: jnp.sum((x - 2) ** 2), x, inequality=lambda x: jnp.sum(x**2) - level, tol=1e-6
        )

    levels = jnp.asarray([1.0, 2.0, 100.0])
    result = jax.jit(jax.vmap(solve))(jnp.asarray([[0.1, 0.2], [3.0, -1.0], [0.0, 0.0]]), levels)
    sides = np.minimum(np.sqrt(np.asarray(levels) / 2), 2.0)
    np.testing.assert_allclose(result.params, np.stack([sides, sides], axis=1), atol=1e-5)
    assert result.message == [result.message[0]] * 3
    assert result.violation.shape == (3,)


@pytest.mark.heavy
def test_every_way_to_end():
    def two(x):
        return {"a": x, "b": x + 1}

    common = {"loss": lambda x: x * x, "x0": jnp.asarray(3.0)}
    infeasible = gx.augmented_lagrangian(**common, equality=two)
    assert infeasible.status == gx.Status.infeasible
    np.testing.assert_allclose(infeasible.violation, 0.5, atol=1e-3)
    one = gx.augmented_lagrangian(**common, equality=lambda x: x - 1, maxiter=1)
    assert one.status == gx.Status.maxiter
    assert one.violation <= 2
    bad = gx.augmented_lagrangian(lambda x: jnp.log(x), jnp.asarray(-1.0), equality=lambda x: x - 1)
    assert bad.status == gx.Status.not_finite
    assert bad.params == -1
    # If the penalty is too small, the loss has no minimum.
    unbounded = gx.augmented_lagrangian(lambda x: -1e3 * x**2, jnp.asarray(3.0), equality=lambda x: x - 1)
    assert unbounded.status == gx.Status.converged
    np.testing.assert_allclose(unbounded.params, 1.0, atol=1e-6)
    for result in (infeasible, one, bad):
        assert result.message.endswith(".")


@pytest.mark.heavy
def test_trees_aux_and_single_precision():
    def loss(p):
        return jnp.sum((p["a"] - 1) ** 2) + p["b"][0] ** 2, "anything"

    x0 = {"a": jnp.zeros((2, 1), "float32"), "b": (jnp.ones((), "float32"), None)}
    result = gx.augmented_lagrangian(loss, x0, equality=lambda p: (jnp.sum(p["a"]) - p["b"][0], None), has_aux=True)
    assert result.status == gx.Status.converged, result.message
    assert result.params["a"].dtype == jnp.float32
    np.testing.assert_allclose(result.params["a"].ravel(), [1 / 3] * 2, atol=1e-4)
    np.testing.assert_allclose(result.params["b"][0], 2 / 3, atol=1e-4)


def test_bad_arguments():
    for wrong, match in (
        ({"tol": 0.0}, "tol must be a number above 0"),
        ({"maxiter": 0}, "maxiter must be an integer of at least 1"),
        ({"equality": 3}, "augmented_lagrangian: equality must be a function"),
        ({"equality": None}, "augmented_lagrangian: there are no constraints"),
        ({"x0": jnp.arange(3)}, "only floating"),
        ({"inner": 3}, "expected gradient transformations"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            gx.augmented_lagrangian(**{"loss": distance, "x0": TARGET, "equality": balanced, **wrong})
