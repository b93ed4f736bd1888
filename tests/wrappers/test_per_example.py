"""Per-example gradients: a transformation that averages them, and a wrapper that tracks their mean and variance."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.experimental import aggregating

import gradtx as gx
from tests.cases import PER_EXAMPLE

RNG = np.random.default_rng(0)
P = {"w": jnp.asarray(RNG.normal(size=(3, 2))), "b": jnp.asarray(RNG.normal(size=2))}
STEPS = [jax.tree.map(lambda p: jnp.asarray(RNG.normal(size=(4, *p.shape))), P) for _ in range(6)]


def close(a, b, rtol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14), a, b)


def run(tx, grads, params=P):
    step = jax.jit(tx.update)
    state, found = tx.init(params), []
    for g in grads:
        updates, state = step(g, state, params)
        found.append(updates)
    return found, state


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1)])
def test_the_mean_over_examples_is_optax_s(axis):
    g = {"a": jnp.asarray(RNG.normal(size=(5, 5, 5)))}
    found = gx.average_per_element_updates(axis).update(g, gx.EmptyState())[0]
    close(found, aggregating.average_per_element_updates(axis).update(g, optax.EmptyState())[0])


def test_a_chain_is_optax_s_process():
    """With accumulation, the wrapper contains the transformations that follow."""
    ours = gx.chain(gx.average_per_element_updates(), gx.accumulate(gx.adam(0.1), 2))
    theirs = aggregating.process(optax.identity(), aggregating.average_incrementally_updates(0, 2), optax.adam(0.1))
    close(run(ours, STEPS)[0], run(theirs, STEPS)[0], rtol=1e-10)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_updates_and_averages_are_optax_s(every, decay):
    ours = gx.add_mean_variance_to_opt(gx.adam(0.1), decay, 0, every)
    theirs = aggregating.add_mean_variance_to_opt(optax.adam(0.1), decay, 0, every)
    (found, state), (expected, its) = run(ours, STEPS), run(theirs, STEPS)
    close(found, expected, rtol=1e-10)
    # optax joins the sums of squares with a factor in float32.
    rtol = 1e-10 if every == 1 else 1e-7
    close(gx.get_unbiased_mean_and_variance_ema(state), aggregating.get_unbiased_mean_and_variance_ema(its), rtol=rtol)


@pytest.mark.parametrize("every", [1, 3])
def test_without_a_memory_they_are_those_of_all_examples_of_the_step(every):
    tx = gx.chain(gx.add_mean_variance_to_opt(gx.sgd(0.1), ema_decay=0.0, accumulation_steps=every), gx.identity())
    _, state = run(tx, STEPS[:every])
    mean, variance = gx.get_unbiased_mean_and_variance_ema(state)
    together = jax.tree.map(lambda *g: jnp.concatenate(g), *STEPS[:every])
    close(mean, jax.tree.map(lambda g: jnp.mean(g, axis=0), together))
    close(variance, jax.tree.map(lambda g: jnp.var(g, axis=0, ddof=1), together))


def test_a_scheduled_decay_is_corrected_exactly():
    """The averages are weighted means: of equal gradients the mean is that gradient, whatever the decays were."""
    tx = gx.add_mean_variance_to_opt(gx.sgd(0.1), ema_decay=gx.linear_schedule(0.2, 0.9, 3))
    _, state = run(tx, [STEPS[0]] * 4)
    close(gx.get_unbiased_mean_and_variance_ema(state)[0], jax.tree.map(lambda g: jnp.mean(g, axis=0), STEPS[0]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("every", [1, 2])
def test_16_bits_are_tracked_in_32(dtype, every):
    p = jnp.ones(3, dtype)
    g = jnp.asarray(RNG.normal(size=(8, 3)) * 30, dtype)
    tx = gx.add_mean_variance_to_opt(gx.sgd(0.5), 0.0, accumulation_steps=every)
    found, state = run(tx, [g] * every, p)
    mean, variance = gx.get_unbiased_mean_and_variance_ema(state)
    assert found[-1].dtype == dtype
    assert mean.dtype == variance.dtype == "float32"
    exact = np.concatenate([np.asarray(g, float)] * every)
    np.testing.assert_allclose(variance, exact.var(axis=0, ddof=1), rtol=1e-5)
    largest = jnp.full((64, 3), jnp.finfo(dtype).max)
    assert (gx.average_per_element_updates().update(largest, gx.EmptyState())[0] == largest[0]).all()


def test_complex_gradients_have_a_real_variance():
    p = jnp.asarray([1j, 2.0])
    g = jnp.asarray(RNG.normal(size=(5, 2)) + 1j * RNG.normal(size=(5, 2)))
    _, state = run(gx.add_mean_variance_to_opt(gx.sgd(0.1)), [g], p)
    mean, variance = gx.get_unbiased_mean_and_variance_ema(state)
    close(mean, g.mean(axis=0))
    close(variance, jnp.var(g, axis=0, ddof=1))


@pytest.mark.one_in(6)
@pytest.mark.parametrize(
    "case", [c for c in PER_EXAMPLE if "element" in c.expression or "variance" in c.expression], ids=str
)
def test_values_states_and_abstract_init(case):
    tx = eval(case.expression, vars(gx).copy())
    assert eval(repr(tx), vars(gx).copy()) == tx
    state = tx.init(P)
    shapes = jax.eval_shape(tx.init, P)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), shapes) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    updates, after = jax.jit(tx.update, donate_argnums=1)(STEPS[0], state, P)

    def same(a, b):
        return jax.tree.map(lambda x, y: x.shape == y.shape and x.dtype == y.dtype, a, b)

    assert all(jax.tree.leaves(same(after, shapes)))
    assert all(jax.tree.leaves(same(updates, P)))
    eager = tx.update(STEPS[0], tx.init(P))[0]  # without params
    close(eager, updates)
    grown = jax.grad(lambda g: sum(jnp.sum(u**2) for u in jax.tree.leaves(tx.update(g, tx.init(P), P)[0])))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grown(jax.tree.map(jnp.zeros_like, STEPS[0]))))
    empty = tx.init({})
    assert tx.update({}, empty)[0] == {}


def test_bad_arguments():
    tx = gx.add_mean_variance_to_opt(gx.sgd(0.1))
    good, average = jnp.ones((4, 2)), gx.average_per_element_updates
    for make, error, message in [
        (lambda: average("rows"), TypeError, "per_elt_axis must be an axis or a sequence"),
        (lambda: average(()), TypeError, "per_elt_axis must be"),
        (
            lambda: gx.average_per_element_updates(2).update(good, gx.EmptyState()),
            ValueError,
            "same number of examples",
        ),
        (lambda: average().update((good, good[:2]), gx.EmptyState()), ValueError, "same number"),
        (lambda: average().update(good, ()), TypeError, "EmptyState"),
        (lambda: tx.update(good[:1], tx.init(good[0]), good[0]), ValueError, "a variance needs two"),
        (lambda: tx.update(good, tx.init(good[0])._replace(mean_grads_ema=()), good[0]), ValueError, "mean_grads_ema"),
        (lambda: gx.add_mean_variance_to_opt(gx.sgd(0.1), 1.0), ValueError, r"ema_decay must be in \[0, 1\)"),
        (lambda: gx.add_mean_variance_to_opt(gx.sgd(0.1), accumulation_steps=0), ValueError, "accumulation_steps"),
        (lambda: gx.get_unbiased_mean_and_variance_ema(gx.EmptyState()), ValueError, "contains 0 states"),
    ]:
        with pytest.raises(error, match=message):
            make()
