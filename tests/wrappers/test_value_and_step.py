"""One function for a whole training step, whatever its transformation needs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx.testing.eager import programs
from tests.cases import close

RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(8, 3))), jnp.asarray(RNG.normal(size=8))
START = {"w": jnp.asarray(RNG.normal(size=3)), "b": jnp.zeros(())}


def loss(params, x=X, y=Y):
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def by_hand(tx, steps, **given):
    params, state, values = START, tx.init(START), []
    for _ in range(steps):
        value, grads = jax.value_and_grad(loss)(params)
        extra = {name: f(params, value, grads) for name, f in given.items()}
        updates, state = tx.update(grads, state, params, **extra)
        params = gx.apply_updates(params, updates)
        values.append(value)
    return params, state, values


def by_step(tx, steps, **extra):
    step = jax.jit(gx.value_and_step(loss, tx))
    params, state, values = START, tx.init(START), []
    for _ in range(steps):
        params, state, value = step(params, state, X, Y, **extra)
        values.append(value)
    return params, state, values


@pytest.mark.one_in(6)
@pytest.mark.parametrize(
    ("tx", "given"),
    [
        (gx.adam(0.1), {}),
        (optax.adam(0.1), {}),
        (gx.polyak_sgd(), {"value": lambda params, value, grads: value}),
        (gx.chain(gx.clip(1.0), gx.reduce_on_plateau(), gx.sgd(0.1)), {"value": lambda params, value, grads: value}),
        (gx.momo(), {"value": lambda params, value, grads: value}),
        (gx.cautious(gx.adam(0.1)), {}),
        (gx.chain(gx.sgd(0.1, momentum=0.9), gx.mask_misaligned()), {"grad": lambda params, value, grads: grads}),
        (
            gx.sam(gx.sgd(0.1), gx.chain(gx.normalize(), gx.sgd(0.05)), opaque_mode=True),
            {"grad_fn": lambda params, value, grads: lambda p, i: jax.grad(loss)(p)},
        ),
        (
            gx.apply_if_finite(
                gx.chain(gx.clip_by_global_norm(1.0), gx.sam(gx.adam(0.1), gx.sgd(0.05), 3, opaque_mode=True))
            ),
            {"grad_fn": lambda params, value, grads: lambda p, i: jax.grad(loss)(p)},
        ),
    ],
    ids=[
        "adam",
        "optax.adam",
        "polyak_sgd",
        "reduce_on_plateau",
        "momo",
        "cautious",
        "mask_misaligned",
        "sam",
        "deep sam",
    ],
)
def test_it_is_the_step_by_hand(tx, given):
    with jax.numpy_rank_promotion("allow" if not isinstance(tx, gx.GradientTransformation) else "raise"):
        found, expected = by_step(tx, 4), by_hand(tx, 4, **given)
    close(found[0], expected[0], rtol=1e-10, atol=1e-13)
    close(found[2], expected[2], rtol=1e-10)


def test_noise_and_its_key():
    """The noise comes from the key in the state, or from a key that is passed."""
    tx = gx.chain(gx.add_noise(0.1, 0.5, 7), gx.sgd(0.1))
    close(by_step(tx, 3)[0], by_hand(tx, 3)[0], rtol=1e-10)
    given = [by_step(gx.noisy_sgd(0.1), 1, key=jax.random.key(i))[0]["w"] for i in (1, 1, 2)]
    np.testing.assert_array_equal(given[0], given[1])
    assert not np.array_equal(given[0], given[2])


def test_a_line_search_of_optax_gets_what_it_needs():
    """`value`, `grad` and `value_fn`."""
    tx = gx.chain(gx.sgd(1.0), optax.scale_by_backtracking_linesearch(10))
    with jax.numpy_rank_promotion("allow"):
        params, _, values = by_step(tx, 5)
    assert loss(params) < values[4] < values[0]


def test_accumulation_by_tokens():
    """Micro-batches of different sizes give the same step as the whole batch."""
    sizes = [(0, 1), (1, 4), (4, 8)]
    tx = gx.accumulate(gx.adamw(0.1), 3, weight="tokens")
    step = gx.value_and_step(loss, tx)
    params, state = START, tx.init(START)
    for _ in range(2):
        for start, stop in sizes:
            params, state, _ = step(params, state, X[start:stop], Y[start:stop], tokens=stop - start)
    close(params, by_hand(gx.adamw(0.1), 2)[0], rtol=1e-12)
    with pytest.raises(ValueError, match="tokens"):
        step(params, state, X, Y)
    with pytest.raises(TypeError, match="tokns"):
        step(params, state, X, Y, tokns=3, tokens=3)


def test_the_loss_is_scaled_and_its_value_is_not():
    tx = gx.chain(gx.dynamic_loss_scale(gx.adam(0.1), 2.0**10))
    params, state, values = by_step(tx, 4)
    expected, _, plain = by_hand(gx.adam(0.1), 4)
    close(params, expected, rtol=1e-6)
    close(values, plain, rtol=1e-6)
    assert gx.loss_scale(state) == 2**10
    # Unscaled, these gradients are zeros in float16.
    tx = gx.dynamic_loss_scale(gx.sgd(1.0))
    step = gx.value_and_step(lambda w: jnp.sum(w.astype("float16") * jnp.float16(1e-4)) * jnp.float16(1e-4), tx)
    w = jnp.zeros(2, "float32")
    np.testing.assert_allclose(step(w, tx.init(w))[0], -1e-8, rtol=2e-3)


def test_scaled_gradients_of_a_sam_step():
    """The gradients at the second point are scaled and unscaled like the gradients at the first point."""
    sam = gx.sam(gx.sgd(0.1), gx.chain(gx.normalize(), gx.sgd(0.05)), opaque_mode=True)
    close(by_step(gx.dynamic_loss_scale(sam, 2.0**8), 3)[0], by_step(sam, 3)[0], rtol=1e-6)


@pytest.mark.parametrize("tx", [gx.sgd(0.1), gx.adam(0.1), gx.chain(gx.scale_by_lion(), gx.scale(-0.05))], ids=str)
def test_complex_parameters_descend(tx):
    target = jnp.array([1 + 2j, -3j])
    step = gx.value_and_step(lambda z: jnp.sum(jnp.abs(z - target) ** 2), tx)
    z = jnp.zeros(2, complex)
    z, _ = jax.jit(lambda z: jax.lax.fori_loop(0, 200, lambda i, c: step(*c)[:2], (z, tx.init(z))))(z)
    assert jnp.sum(jnp.abs(z - target) ** 2) < 0.1


def test_aux_is_handed_on():
    tx = gx.sgd(0.1)
    step = jax.jit(gx.value_and_step(lambda p, x, y: (loss(p, x, y), {"n": x.shape[0], "p": p}), tx, has_aux=True))
    params, _, value, aux = step(START, tx.init(START), X, Y)
    assert aux["n"] == 8
    close(aux["p"], START)
    close((params, value), (by_hand(tx, 1)[0], loss(START)), rtol=1e-12)


def test_donated_in_place():
    """Parameters and state may be donated, because a fresh state shares no buffer with the parameters."""
    tx = gx.with_metrics(gx.apply_if_finite(gx.accumulate(gx.lookahead(gx.ema_params(gx.adam(0.1)), 2, 0.5), 2)))
    step = jax.jit(gx.value_and_step(loss, tx), donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, START)
    state = tx.init(params)
    params, state, _ = step(params, state, X, Y)
    with programs() as compiled:
        for _ in range(3):
            before = params, state
            params, state, _ = step(params, state, X, Y)
            assert all(x.is_deleted() for x in jax.tree.leaves(before[0]))
    assert compiled == []
    assert loss(params) < loss(START)


def test_in_a_scan():
    tx = gx.with_metrics(gx.dynamic_loss_scale(gx.adam(0.1)))
    step = gx.value_and_step(loss, tx)

    @jax.jit
    def train(params):
        def body(carry, _):
            params, state, value = step(*carry, X, Y)
            return (params, state), (value, gx.metrics(state)["grad_norm"])

        return jax.lax.scan(body, (params, tx.init(params)), None, 50)

    (params, _), (values, norms) = train(START)
    assert values.shape == norms.shape == (50,)
    assert loss(params) < 0.7 * values[0]


def test_by_keyword_beats_what_is_computed():
    """Keyword arguments of the caller override computed values, for example a loss averaged over devices."""
    tx = gx.polyak_sgd()
    step = gx.value_and_step(loss, tx)
    close(
        step(START, tx.init(START), X, Y, value=0.5)[0],
        by_hand(tx, 1, value=lambda params, value, grads: 0.5)[0],
        rtol=1e-12,
    )


def test_a_sweep_over_transformations():
    """`tx` may be made inside a jitted function, from traced hyperparameters."""

    def last(rate):
        tx = gx.adam(rate)
        step = gx.value_and_step(loss, tx)
        return step(START, tx.init(START), X, Y)[0]["w"]

    found = jax.jit(jax.vmap(last))(jnp.array([0.1, 0.2]))
    close(found[1], by_hand(gx.adam(0.2), 1)[0]["w"], rtol=1e-12)


@pytest.mark.parametrize(
    "bad",
    [
        lambda params, x, y: (x @ params["w"] - y) ** 2,
        lambda params, x, y: (loss(params, x, y), 3),
        lambda params, x, y: jnp.sum(params["w"]) * 1j,
        lambda params, x, y: 3,
        lambda params, x, y: None,
        lambda params, x, y: {"loss": loss(params, x, y)},
    ],
)
def test_a_loss_that_is_no_real_scalar(bad):
    """With or without a loss scale, jitted or not, it is a TypeError that names the function at fault."""
    for tx in (gx.sgd(0.1), gx.dynamic_loss_scale(gx.sgd(0.1))):
        with pytest.raises(TypeError, match="loss"):
            gx.value_and_step(bad, tx)(START, tx.init(START), X, Y)


def test_aux_that_is_missing():
    tx = gx.sgd(0.1)
    with pytest.raises(TypeError, match="aux"):
        gx.value_and_step(loss, tx, has_aux=True)(START, tx.init(START), X, Y)


def test_bad_arguments():
    for call in (lambda: gx.value_and_step(3, gx.sgd(0.1)), lambda: gx.value_and_step(loss, 0.1)):
        with pytest.raises(TypeError):
            call()
