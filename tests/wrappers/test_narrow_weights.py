"""16-bit parameters: master weights, and parameters with a remainder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.storage.remainder import remainder, with_remainder

WRAPPERS = {
    "master": gx.master_weights,
    "int16": gx.corrected_weights,
    "int8": lambda tx: gx.corrected_weights(tx, "int8"),
}


def run(tx, params, grads, steps):
    """The parameters after some steps along the same gradients."""

    @jax.jit
    def body(_, carry):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return gx.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, body, (params, tx.init(params)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_small_steps_add_up(name, dtype):
    params, grads = jnp.ones(3, dtype), -jnp.ones(3, dtype)
    found, _ = run(WRAPPERS[name](gx.sgd(1e-3)), params, grads, 2048)
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, "float32"), 3.048, atol=0.02)


def test_steps_add_up_on_average_if_they_are_drawn():
    params = {"a": jnp.ones((50, 20), "bfloat16"), "b": jnp.ones(1000, "float16")}
    grads = jax.tree.map(lambda p: -jnp.ones_like(p), params)
    tx = gx.stochastic_weights(gx.sgd(1e-3))
    found, _ = run(tx, params, grads, 2048)
    for name, x in found.items():
        x = np.asarray(x, "float32")
        assert params[name].dtype == found[name].dtype
        np.testing.assert_allclose(x.mean(), 3.048, atol=0.01)
        np.testing.assert_allclose(x, 3.048, atol=0.2)
    again, _ = run(tx, params, grads, 2048)
    jax.tree.map(np.testing.assert_array_equal, found, again)
    other, _ = run(gx.stochastic_weights(gx.sgd(1e-3), seed=1), params, grads, 2048)
    assert (other["a"] != found["a"]).any()


def test_drawn_steps_are_the_same_on_a_mesh():
    params = {"w": jnp.linspace(0.5, 2.0, 64, dtype="bfloat16").reshape(8, 8)}
    grads = jax.tree.map(lambda p: (p * 1e-3).astype("bfloat16"), params)
    tx = gx.stochastic_weights(gx.adam(1e-3))
    expected, _ = run(tx, params, grads, 20)
    place = jax.sharding.NamedSharding(jax.make_mesh((8,), ("x",)), jax.sharding.PartitionSpec("x"))
    found, _ = run(tx, jax.device_put(params, place), jax.device_put(grads, place), 20)
    np.testing.assert_array_equal(np.asarray(found["w"], "float32"), np.asarray(expected["w"], "float32"))


def test_without_them_small_steps_are_lost():
    found, _ = run(gx.sgd(1e-3), jnp.ones(1, "bfloat16"), -jnp.ones(1, "bfloat16"), 2048)
    assert found == 1


@pytest.mark.parametrize("name", WRAPPERS)
def test_only_narrow_leaves_keep_something(name):
    params = {"half": jnp.ones((4, 8), "bfloat16"), "single": jnp.ones(8, "float32"), "none": None}
    tx = WRAPPERS[name](gx.adam(1e-3))
    rows = [row for row in gx.describe(tx, params).rows if row.field in ("master", "remainder")]
    assert [(row.path, row.nbytes) for row in rows] == [("half", 32 * {"master": 4, "int16": 2, "int8": 1}[name])]
    found, state = run(tx, params, params, 3)
    assert jax.tree.map(jnp.result_type, found) == jax.tree.map(jnp.result_type, params)
    plain, _ = run(gx.adam(1e-3), jax.tree.map(lambda x: x.astype("float32"), params), params, 3)
    np.testing.assert_allclose(found["single"], plain["single"], rtol=1e-6)
    with pytest.raises(ValueError, match="half"):
        tx.update(params, state, {**params, "half": jnp.ones((4, 8), "float32")})


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_weights_are_those_of_a_run_in_float32(name):
    target = jnp.linspace(-2, 2, 16)

    def trained(tx, dtype, gradient_at):
        params = jnp.full(16, 0.3, "bfloat16").astype(dtype)
        state = tx.init(params)
        for _ in range(20):
            updates, state = tx.update((gradient_at(params, state) - target).astype(dtype), state, params)
            params = gx.apply_updates(params, updates)
        return params, state

    expected, _ = trained(gx.adamw(0.01), "float32", lambda p, _: p.astype("bfloat16").astype("float32"))
    # The gradients are rounded to bfloat16 in one run only, so Adam's steps agree to that.
    found, state = trained(WRAPPERS[name](gx.adamw(0.01)), "bfloat16", lambda p, _: p.astype("float32"))
    weight = state.master if name == "master" else with_remainder(found, state.remainder)
    np.testing.assert_allclose(weight, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(weight, np.asarray(found, "float32"), rtol=2.0**-8)


@pytest.mark.parametrize("name", WRAPPERS)
def test_large_steps_end_at_the_rounded_weight(name):
    params = jnp.array([1.0, 1.0, -3.0, 1e-3, 0.0], "bfloat16")
    grads = jnp.array([1.9876, -1e4, 2.7182, -7.1, 1e-6], "float32")
    found, _ = run(WRAPPERS[name](gx.sgd(1.0)), params, grads, 1)
    expected = (params.astype("float32") - grads).astype("bfloat16")
    np.testing.assert_array_equal(np.asarray(found, "float32"), np.asarray(expected, "float32"))


@pytest.mark.parametrize("name", WRAPPERS)
def test_parameters_that_were_changed_are_taken_as_they_are(name):
    tx = WRAPPERS[name](gx.sgd(1e-3))
    params, grads = jnp.ones(2, "bfloat16"), -jnp.ones(2, "bfloat16")
    _, state = run(tx, params, grads, 100)
    loaded = jnp.full(2, -4.0, "bfloat16")
    updates, state = tx.update(jnp.zeros(2, "bfloat16"), state, loaded)
    np.testing.assert_allclose(gx.apply_updates(loaded, updates).astype("float32"), -4.0, atol=0.02)


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_is_not_finite_is_visible(name):
    tx = WRAPPERS[name](gx.sgd(1.0))
    params = jnp.ones(3, "bfloat16")
    state = tx.init(params)
    updates, state = tx.update(jnp.array([jnp.nan, -jnp.inf, 0.5], "bfloat16"), state, params)
    found = np.asarray(gx.apply_updates(params, updates), "float32")
    np.testing.assert_array_equal(found, [np.nan, np.inf, 0.5])


def test_functions_of_the_parameters_see_their_dtype():
    seen = []

    def loss(p):
        seen.append(p.dtype)
        return jnp.sum(p.astype("float32") ** 2)

    tx = gx.master_weights(gx.chain(gx.sgd(1.0), gx.scale_by_backtracking_linesearch(8)))
    params = jnp.ones(3, "bfloat16")
    value, grads = jax.value_and_grad(loss)(params)
    updates, _ = tx.update(grads, tx.init(params), params, value=value, grad=grads, value_fn=loss)
    assert set(seen) == {jnp.dtype("bfloat16")}
    assert loss(gx.apply_updates(params, updates)) < value


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("bits", "digits"), [("int8", 8), ("int16", 16)])
def test_remainders_have_the_digits_they_promise(dtype, bits, digits):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(4000) * 2.0 ** rng.integers(-12, 12, 4000), "float32")
    p = x.astype(dtype)
    error = np.abs(np.asarray(with_remainder(p, remainder(x, p, bits)) - x, "float64"))
    kind = jnp.finfo(dtype)  # below its normal numbers it has fewer digits
    allowed = np.maximum(np.abs(x), float(kind.smallest_normal)) * max(2.0 ** -(kind.nmant + digits), 2.0**-23)
    assert (error <= allowed).all()


def test_bad_calls():
    with pytest.raises(ValueError, match="remainder_dtype"):
        gx.corrected_weights(gx.sgd(0.1), "int4")
    tx = gx.master_weights(gx.sgd(0.1))
    with pytest.raises(ValueError, match="params"):
        tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
