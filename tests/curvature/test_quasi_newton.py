"""Line searches, quasi-Newton methods and `minimize` on functions with known minima."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx.curvature.hager_zhang import HAGER_ZHANG
from tests.cases import close, finite


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x):
    return sum((c - x[0] + x[0] * x[1] ** (i + 1)) ** 2 for i, c in enumerate((1.5, 2.25, 2.625)))


SPREAD = jnp.geomspace(0.1, 10.0, 6)


def quadratic(x):
    return jnp.sum(SPREAD * x**2) / 2


def test_directions_are_those_of_optax_where_the_curvature_is_positive():
    for settings in ((10, True), (3, True), (3, False)):
        ours, theirs = gx.scale_by_lbfgs(*settings), optax.scale_by_lbfgs(*settings)

        def run(tx):
            def step(carry, _):
                x, state = carry
                updates, state = tx.update(jax.grad(quadratic)(x), state, x)
                return (x - 0.1 * updates, state), updates

            x = jnp.arange(1.0, 7.0)
            return jax.lax.scan(step, (x, tx.init(x)), length=15)[1]

        with jax.numpy_rank_promotion("allow"):
            np.testing.assert_allclose(run(ours), run(theirs), rtol=1e-9)


def test_a_step_along_negative_curvature_keeps_the_direction_downhill():
    tx = gx.scale_by_lbfgs()
    points = [jnp.array([1.0, 1.0]), jnp.array([2.0, 1.0])]
    state = tx.init(points[0])
    for x in points:
        g = jnp.array([-x[0], x[1]])  # curvature -1 along the first axis
        direction, state = tx.update(g, state, x)
    assert state.pairs == 0
    assert direction @ g > 0


@pytest.mark.parametrize(
    "search",
    [
        gx.scale_by_zoom_linesearch(30),
        gx.scale_by_backtracking_linesearch(60),
        gx.scale_by_hager_zhang_linesearch(60, approx_dec_rtol=0.0),
        gx.scale_by_hager_zhang_linesearch(60, slope_rtol=0.01, curv_rtol=0.1, initial_guess_strategy="keep"),
    ],
    ids=str,
)
def test_a_search_fulfils_its_conditions(search):
    for scale in (1e-3, 1.0, 1e3):
        x = jnp.array([-1.2, 1.0])
        value, grad = jax.value_and_grad(rosenbrock)(x)
        updates = -scale * grad
        step, state = search.update(updates, search.init(x), x, value=value, grad=grad, value_fn=rosenbrock)
        new, slope = jax.value_and_grad(rosenbrock)(x + step)
        assert not state.info.failed
        assert new <= value + 1e-4 * state.learning_rate * (updates @ grad)
        if isinstance(search, gx.scale_by_zoom_linesearch):
            assert abs(slope @ updates) <= 0.9 * abs(grad @ updates)
        if isinstance(search, gx.scale_by_hager_zhang_linesearch):
            assert slope @ updates >= search.curv_rtol * (grad @ updates)
        if search.keeps_grad:
            close((state.value, state.grad), (new, slope), rtol=1e-9)


def test_a_search_is_not_led_astray_by_a_hill():
    """phi descends at 0 and at the first trial step, but a hill that is higher than the start lies between them."""

    def hilly(x):
        return jnp.sum(jnp.where(x < 2, (x - 0.5) ** 2, 3 - 0.01 * x))

    x = jnp.zeros(1)
    value, grad = jax.value_and_grad(hilly)(x)
    search = gx.scale_by_hager_zhang_linesearch(50, slope_rtol=0.01, curv_rtol=0.02, initial_guess_strategy="one")
    step, state = search.update(-10 * grad, search.init(x), x, value=value, grad=grad, value_fn=hilly)
    assert not state.info.failed
    np.testing.assert_allclose(step, 0.5, atol=0.05)


def test_where_rounding_hides_the_decrease_slopes_lead_on():
    """Near the minimum of 1 + x^2, rounding makes all values within 1e-8 equal, so the search relies on slopes."""

    def flat(x):
        return 1 + jnp.sum(x**2)

    x = jnp.full(2, 1e-9)
    value, grad = jax.value_and_grad(flat)(x)
    for search in (gx.scale_by_zoom_linesearch(50, curv_rtol=0.1), HAGER_ZHANG):
        step, state = search.update(-grad, search.init(x), x, value=value, grad=grad, value_fn=flat)
        assert not state.info.failed
        assert state.info.decrease_error == 0
        assert jnp.all(jnp.abs(x + step) <= 1e-10)


def test_damping_takes_in_a_pair_of_negative_curvature_and_stays_positive():
    g = [jnp.array([-1.0, 1.0]), jnp.array([-2.0, 3.0])]  # a saddle: <s, y> = -1 * 1 + 0.5 * 2
    x = [jnp.array([1.0, 1.0]), jnp.array([2.0, 1.25])]
    inverse = {}
    for damped in (False, True):
        tx = gx.scale_by_bfgs(damped)
        state = tx.init(x[0])
        for point, grad in zip(x, g, strict=True):
            _, state = tx.update(grad, state, point)
        inverse[damped] = state.inverse_hessian
    np.testing.assert_array_equal(inverse[False], jnp.eye(2))
    # The secant equation H y = s~ holds for the damped s~ = theta s + (1 - theta) y, whose <s~, y> is 0.2 |y|^2.
    s, y = x[1] - x[0], g[1] - g[0]
    theta = 0.8 * (y @ y) / (y @ y - s @ y)
    np.testing.assert_allclose(inverse[True] @ y, theta * s + (1 - theta) * y, rtol=1e-12)
    assert jnp.linalg.eigvalsh(inverse[True])[0] > 0


METHODS = ("hager_zhang", "polak_ribiere", "fletcher_reeves")


@pytest.mark.parametrize("method", METHODS)
def test_conjugate_gradients_end_on_a_quadratic_after_as_many_steps_as_it_has_curvatures(method):
    def line(g, d, x):
        return -(g @ d) / (d @ (SPREAD * d)) * d

    tx = gx.scale_by_nonlinear_cg(method)
    x = jnp.arange(1.0, 7.0)
    state = tx.init(x)
    for _ in SPREAD:
        g = jax.grad(quadratic)(x)
        u, state = tx.update(g, state)
        x = x + line(g, -u, x)
    np.testing.assert_allclose(x, 0, atol=1e-9)


def test_the_betas_are_those_of_the_papers():
    g0, g1 = np.array([2.0, 1.0, -1.0]), np.array([0.5, -1.0, 0.25])
    y, d = g1 - g0, -g0
    hz = (y - 2 * d * (y @ y) / (d @ y)) @ g1 / (d @ y)
    for method, beta in (
        ("fletcher_reeves", g1 @ g1 / (g0 @ g0)),
        ("polak_ribiere", max(g1 @ y / (g0 @ g0), 0)),
        ("hager_zhang", max(hz, -1 / (np.sqrt(d @ d) * 0.01))),
    ):
        tx = gx.scale_by_nonlinear_cg(method, restart_rtol=float("inf"))
        _, state = tx.update(jnp.asarray(g0), tx.init(jnp.zeros(3)))
        np.testing.assert_allclose(tx.update(jnp.asarray(g1), state)[0], g1 + beta * g0, rtol=1e-12)


def test_a_search_that_cannot_go_down_stays_and_says_so():
    x = jnp.array([1.0, 2.0])
    value, grad = jax.value_and_grad(quadratic_of_two)(x)
    for search in (gx.scale_by_zoom_linesearch(10), gx.scale_by_backtracking_linesearch(10), HAGER_ZHANG):
        step, state = search.update(grad, search.init(x), x, value=value, grad=grad, value_fn=quadratic_of_two)
        assert state.info.failed
        np.testing.assert_array_equal(step, jnp.zeros(2))


def quadratic_of_two(x):
    return jnp.sum(x**2)


def test_a_search_steps_back_from_where_the_function_is_not_finite():
    def log_barrier(x):
        return x[0] - jnp.log(x[0])

    result = gx.minimize(log_barrier, jnp.array([1e-3]), gx.lbfgs())
    np.testing.assert_allclose(result.params, 1.0, rtol=1e-6)


@pytest.mark.one_in(6)
@pytest.mark.parametrize(
    "method",
    [gx.lbfgs(), gx.bfgs(), gx.sr1(), *(gx.nonlinear_cg(method=method) for method in METHODS)],
    ids=["lbfgs", "bfgs", "sr1", *METHODS],
)
@pytest.mark.parametrize("function", [rosenbrock, beale, quadratic], ids=lambda f: f.__name__)
def test_minima_are_found(method, function):
    start = {rosenbrock: [-1.2, 1.0, -0.5, 2.0], beale: [0.0, 0.0], quadratic: np.arange(1.0, 7.0)}[function]
    result = gx.minimize(function, jnp.asarray(start), method)
    assert result.status == gx.Status.converged, result.message
    assert result.grad_norm <= 1e-8
    assert result.value <= 1e-15
    assert result.steps < 150


def test_starts_in_a_batch_are_starts_one_by_one():
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)))
    batch = jax.vmap(lambda x: gx.minimize(rosenbrock, x))(starts)
    for i, x in enumerate(starts):
        one = gx.minimize(rosenbrock, x)
        np.testing.assert_allclose(batch.params[i], one.params, rtol=1e-6)
    assert batch.message == [gx.minimize(rosenbrock, starts[0]).message] * 4


def test_every_way_to_end():
    x = jnp.array([-1.2, 1.0])
    assert gx.minimize(rosenbrock, x, maxiter=3).status == gx.Status.maxiter
    assert gx.minimize(lambda x: jnp.sum(jnp.log(x)), x).status == gx.Status.not_finite
    assert gx.minimize(quadratic_of_two, jnp.zeros(2)).steps == 0
    kink = gx.minimize(lambda x: jnp.sum(jnp.abs(x)), jnp.array([1.0, -3.0]))
    assert kink.status in (gx.Status.linesearch_failed, gx.Status.stalled, gx.Status.converged)
    never_worse = gx.minimize(rosenbrock, x, gx.sgd(1.0), maxiter=20)
    assert never_worse.value <= rosenbrock(x)
    still = gx.minimize(quadratic_of_two, jnp.ones(2), gx.set_to_zero())
    assert still.status == gx.Status.stalled
    assert all(isinstance(status.name, str) for status in gx.Status)


def test_what_has_converged_has_a_small_gradient():
    """Near the minimum, values differ only by rounding: a lower value at a larger gradient is not a better point."""

    def f(x):
        return jnp.sum(500 * (x - 2) ** 2 + 1000 * (x - 1) + 5e3 * (x - 1) ** 2)

    starts = 1 + 1e-9 * jax.random.normal(jax.random.key(0), (50, 1))
    ends = jax.jit(jax.vmap(lambda x: gx.minimize(f, x, tol=1e-8)))(starts)
    assert (ends.status == gx.Status.converged).all()
    assert (ends.grad_norm <= 1e-8).all()


def test_trees_callbacks_and_aux():
    seen = []

    def loss(params):
        return jnp.sum((params["a"] - 1) ** 2) + (params["b"][0] + 2) ** 2, "anything"

    result = gx.minimize(
        loss, {"a": jnp.zeros((2, 1)), "b": (jnp.zeros(()), None)}, has_aux=True, callback=lambda *x: seen.append(x)
    )
    jax.effects_barrier()
    close(result.params, {"a": jnp.ones((2, 1)), "b": (-2 * jnp.ones(()), None)}, rtol=1e-7)
    assert [int(step) for step, _, _ in seen] == list(range(1, int(result.steps) + 1))


def test_value_and_gradient_are_not_computed_again():
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return quadratic(x)

    tx = gx.lbfgs()
    x = jnp.arange(1.0, 7.0)
    state = tx.init(x)
    at = gx.value_and_grad_from_state(quadratic)
    for _ in range(3):
        value, grad = at(x, state=state)
        np.testing.assert_allclose(value, quadratic(x), rtol=1e-12)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=quadratic)
        x = gx.apply_updates(x, updates)
    gx.value_and_grad_from_state(counted)(x, state=state)
    jax.effects_barrier()
    assert not calls
    with pytest.raises(ValueError, match="0 line searches"):
        at(x, state=gx.adam(0.1).init(x))


def test_bad_calls():
    x = jnp.ones(2)
    for call, message in (
        (lambda: gx.minimize(3, x), "fun must be a function"),
        (lambda: gx.minimize(quadratic_of_two, x, maxiter=2.5), "maxiter must be an integer"),
        (lambda: gx.minimize(quadratic_of_two, x, tol=-1.0), "tol must be"),
        (lambda: gx.minimize(quadratic_of_two, jnp.ones(2, int)), "only floating"),
        (lambda: gx.lbfgs().update(x, gx.lbfgs().init(x), x), "needs `value`"),
        (lambda: gx.scale_by_lbfgs(0), "memory_size must be"),
        (lambda: gx.scale_by_zoom_linesearch(10, slope_rtol=0.7), "slope_rtol must be in"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_a_float64_gradient_beyond_the_range_of_the_state():
    """The state of float32 parameters is float32, so the gradient becomes the largest number, not infinity."""
    p, g = jnp.ones(2, "float32"), jnp.full(2, 1e300, "float64")
    tx = gx.scale_by_lbfgs(scale_init_precond=False)
    assert finite(tx.update(g, tx.init(p), p))


def test_backtracking_from_the_longest_step_to_any_decrease():
    """As in optax's tests: no decrease condition on the slope, and every search starts with the longest step."""
    x = jnp.ones(3)
    value, grad = jax.value_and_grad(lambda x: jnp.sum(x**2))(x)
    for longest, first in (
        (4.0, 4.0),
        (jnp.inf, 1.0),
    ):  # without a longest step, the search starts with the previous step
        tx = gx.scale_by_backtracking_linesearch(
            60, slope_rtol=0.0, increase_factor=jnp.inf, max_learning_rate=longest, decrease_factor=0.5
        )
        updates, state = tx.update(-grad, tx.init(x), x, value=value, grad=grad, value_fn=lambda x: jnp.sum(x**2))
        assert jnp.sum((x + updates) ** 2) <= value
        assert float(state.learning_rate) in (first, first / 2, first / 4)
        assert int(state.info.num_linesearch_steps) == 1 + round(float(jnp.log2(first / state.learning_rate)))
