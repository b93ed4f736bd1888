"""Steps outside of jit do not recompile, and their loops and branches give the same results as in jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import gradtx as gx
from gradtx.core import compiled
from gradtx.core.branch import fold, inlined, loop
from gradtx.testing.eager import programs

SOLVERS = {
    "lbfgs": gx.lbfgs(),
    "lbfgs alone": gx.lbfgs(0.1, linesearch=None),
    "nonlinear_cg": gx.nonlinear_cg(),
    "backtracking": gx.chain(gx.sgd(0.1), gx.scale_by_backtracking_linesearch(10)),
    "newton": gx.newton(),
    "newton, absolute": gx.newton(hessian="absolute"),
    "newton_cg": gx.newton_cg(),
    "trust region": gx.trust_region_newton(),
    "trust region, exact": gx.trust_region_newton(subproblem="exact"),
    "sophia": gx.sophia(0.1, update_interval=1),
    "adahessian": gx.with_hessian_diag(gx.adahessian(0.1)),
}


def bowl(x):
    return jnp.sum(jnp.cosh(x - jnp.arange(3.0)))


@pytest.mark.one_in(5)
@pytest.mark.parametrize("tx", SOLVERS.values(), ids=SOLVERS)
def test_a_third_eager_step_of_a_solver_compiles_nothing(tx):
    x = jnp.ones(3)
    state = tx.init(x)
    for t in range(3):
        value, grad = jax.value_and_grad(bowl)(x)
        with programs() as names:
            updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=bowl)
        x = x + updates
        assert t < 2 or not names


def numbers_at(t):
    return 0.1 * 0.9**t


CHANGING = {
    "one number": lambda t: gx.adam(0.1).replace(learning_rate=numbers_at(t)),
    "two at once": lambda t: gx.adam(0.2).replace(learning_rate=numbers_at(t), b1=0.9 - 0.01 * t),
    "two of one name": lambda t: gx.polyak_sgd(numbers_at(t)),
    "in a wrapper": lambda t: gx.schedule_free_sgd(numbers_at(t)),
}


@pytest.mark.parametrize("tx_of", CHANGING.values(), ids=CHANGING)
def test_numbers_that_change_at_every_step_are_compiled_for_twice(tx_of, monkeypatch):
    monkeypatch.setattr(compiled, "_eager", compiled._EagerNumbers())  # without functions that other tests have cached
    x = {"w": jnp.ones((2, 5)), "b": jnp.ones(7)}
    state = tx_of(0).init(x)
    for t in range(5):
        with programs() as names:
            _, state = tx_of(t).update(x, state, x, value=jnp.ones(()))
        assert t < 2 or not names, t


def test_numbers_that_stay_are_static_until_there_are_too_many(monkeypatch):
    monkeypatch.setattr(compiled, "_eager", compiled._EagerNumbers())
    monkeypatch.setattr(compiled._Places, "LIMIT", 2)
    x = jnp.ones(11)
    counts = []
    for rate in (0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.75):
        with programs() as names:
            tx = gx.chain(gx.scale(1.0), gx.scale(rate), gx.scale(1.0), gx.scale(1.0))
            tx.update(x, tx.init(x), x)
        counts.append(len(names) > 0)
    assert counts == [True, False, True, False, True, False, False]


def test_decays_that_stay_keep_their_digits():
    """For b = 0.99999, 1 - b in float32 would lose two of seven decimal digits."""
    g = jnp.ones(3, "float32")
    for decay in (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999):
        tx = gx.ema(decay, debias=False)
        for _ in range(2):
            np.testing.assert_allclose(tx.update(g, tx.init(g))[0], 1 - decay, rtol=1e-6)


class closes_over_its_loop(gx.rules.Stateful, state=gx.rules.CountState):
    """A transformation whose loop is a closure."""

    def step(self, updates, state, params, extra):
        double = lax.fori_loop(0, 2, lambda i, x: x + jax.tree.leaves(updates)[0], jax.tree.leaves(updates)[0])
        updates = jax.tree.map(lambda g: g + double.sum(), updates)
        return updates, gx.rules.CountState(gx.rules.counted(state.count))


def test_the_law_sees_a_loop_that_is_compiled_anew():
    report = gx.testing.check(closes_over_its_loop(), laws=["eager steps"])
    assert not report.passed
    assert "compiles" in str(report)
    report = gx.testing.check(closes_over_its_loop(), laws=["eager steps"], unless={"eager": "it is a test"})
    assert report.passed
    assert gx.testing.check(gx.sgd(0.1), laws=["eager steps"]).passed


# --- control flow


def halved(go_on_above, x):
    return loop(lambda x: x > go_on_above, lambda x: x / 2, x)


def test_a_loop_is_the_same_eager_and_traced():
    assert halved(1.0, jnp.asarray(9.0)) == jax.jit(halved)(1.0, jnp.asarray(9.0)) == 0.5625
    np.testing.assert_array_equal(jax.vmap(halved, (None, 0))(1.0, jnp.array([9.0, 3.0])), [0.5625, 0.75])
    assert jax.jvp(lambda x: halved(1.0, x), (jnp.asarray(9.0),), (jnp.asarray(1.0),))[1] == 1 / 16


def test_a_loop_whose_functions_close_over_what_is_traced():
    @jax.jit
    def f(limit, factor):
        with jax.ensure_compile_time_eval():
            start = jnp.asarray(9.0)
        first = loop(lambda x: x > limit, lambda x: x / 2, start)
        return first, loop(lambda x: x > 1, lambda x: x * factor, start)

    assert [float(x) for x in f(1.0, 0.5)] == [0.5625, 0.5625]


def test_fold_is_the_same_eager_and_traced():
    xs = jnp.arange(1.0, 5.0)
    outer = jnp.asarray(2.0)

    def horner(x):
        return fold(lambda total, c: total * x + c, jnp.zeros(()), xs)

    assert horner(outer) == jax.jit(horner)(outer) == 26
    assert jax.grad(horner)(outer) == jax.grad(jax.jit(horner))(outer)


def test_an_inlined_function_is_no_call_in_traced_code():
    @inlined
    def twice(x):
        return 2 * x

    assert twice(jnp.ones(())) == 2
    assert "jit" not in str(jax.make_jaxpr(twice)(1.0))
