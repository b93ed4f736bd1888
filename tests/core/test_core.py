"""The core: functions as transformations, chains, hyperparameters, `replace`, user-defined rules."""

import pickle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from tests.cases import close, draw

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
GRADS = jax.tree.map(lambda p: 0.5 * p, PARAMS)


def half_init(params):
    del params
    return gx.EmptyState()


def half_update(updates, state, params=None, *, factor=0.5):
    del params
    return jax.tree.map(lambda g: factor * g, updates), state


def test_a_transformation_from_two_functions():
    tx = gx.GradientTransformation(half_init, half_update)
    init, update = tx
    updates, _ = update(GRADS, init(PARAMS))
    np.testing.assert_array_equal(updates["b"], np.full(3, 0.25))
    assert isinstance(tx, gx.GradientTransformation)
    assert tx == gx.GradientTransformation(init_fn=half_init, update_fn=half_update)
    assert jax.tree.leaves(tx) == []
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert repr(tx).startswith("GradientTransformation(")
    # The function gets only the extra arguments that it names, also inside a chain.
    chained = gx.chain(gx.scale(2.0), tx)
    updates, _ = chained.update(GRADS, chained.init(PARAMS), PARAMS, factor=3.0, value=1.0)
    np.testing.assert_array_equal(updates["b"], np.full(3, 3.0))
    with pytest.raises(TypeError, match="unknown extra argument 'fctor'"):
        chained.update(GRADS, chained.init(PARAMS), PARAMS, fctor=3.0)


def test_every_transformation_unpacks():
    init, update = gx.adam(0.1)
    updates, state = update(GRADS, init(PARAMS), PARAMS)
    assert jax.tree.structure(updates) == jax.tree.structure(GRADS)
    assert int(state[0].count) == 1


def test_chains_nest_and_keep_the_state_of_each_link():
    flat = gx.chain(gx.clip(0.3), gx.trace(0.9), gx.clip_by_global_norm(0.5), gx.scale(-0.1))
    nested = gx.chain(gx.clip(0.3), gx.chain(gx.trace(0.9), gx.chain(gx.clip_by_global_norm(0.5))), gx.scale(-0.1))
    one, two = flat.init(PARAMS), nested.init(PARAMS)
    assert jax.tree.structure(two) == jax.tree.structure((one[0], (one[1], (one[2],)), one[3]))
    for _ in range(3):
        updates, one = flat.update(GRADS, one, PARAMS)
        expected, two = nested.update(GRADS, two, PARAMS)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(one), jax.tree.leaves(two))


def test_a_chain_equals_its_links_one_after_the_other():
    links = [gx.clip(0.3), gx.scale_by_adam(), gx.add_decayed_weights(0.1), gx.clip_by_block_rms(0.1), gx.scale(-1.0)]
    tx = gx.chain(*links)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    expected = GRADS
    for link in links:
        expected, _ = link.update(expected, link.init(PARAMS), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), updates, expected)


def test_sixteen_bit_updates_are_rounded_once_at_the_end_of_a_chain():
    tx = gx.chain(gx.scale(1e-4), gx.clip_by_global_norm(1e9), gx.scale(1e-4), gx.scale(1e8))
    g = jnp.asarray([3.0], "float16")  # 3e-8 is subnormal in float16
    assert float(tx.update(g, tx.init(g))[0][0]) == 3.0


def test_named_chain():
    tx = gx.named_chain(("clip", gx.clip(1.0)), ("adam", gx.adam(0.1)))
    state = tx.init(PARAMS)
    assert list(state) == ["clip", "adam"]
    _, state = jax.jit(tx.update)(GRADS, state, PARAMS)
    assert int(state["adam"][0].count) == 1
    assert gx.hyperparameters(tx)["adam.scale_by_adam.b1"] == 0.9
    assert gx.hyperparameters(tx.replace(**{"clip.max_delta": 2.0}))["clip.max_delta"] == 2.0


def test_hyperparameters_by_name():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(gx.linear_schedule(1.0, 0.0, 4)), gx.trace(0.1), gx.trace(0.2))
    found = gx.hyperparameters(tx)
    assert list(found) == [
        "clip_by_global_norm.max_norm",
        "scale_by_adam.b1",
        "scale_by_adam.b2",
        "scale_by_adam.eps",
        "scale_by_adam.eps_root",
        "add_decayed_weights.weight_decay",
        "scale_by_learning_rate.learning_rate",
        "trace[0].decay",
        "trace[0].dampening",
        "trace[1].decay",
        "trace[1].dampening",
    ]
    assert found["scale_by_learning_rate.learning_rate"] == gx.linear_schedule(1.0, 0.0, 4)
    state = tx.init(PARAMS)
    for expected in (1.0, 0.75, 0.5):
        assert float(gx.hyperparameters(tx, state)["scale_by_learning_rate.learning_rate"]) == expected
        _, state = tx.update(GRADS, state, PARAMS)


def test_replace_reaches_into_chains_and_schedules():
    tx = gx.adamw(gx.linear_schedule(1.0, 0.0, 4))
    assert tx.replace(b1=0.5) == gx.adamw(gx.linear_schedule(1.0, 0.0, 4), b1=0.5)
    assert tx.replace(learning_rate=0.1) == gx.adamw(0.1)
    assert tx.replace(init_value=2.0) == gx.adamw(gx.linear_schedule(2.0, 0.0, 4))
    assert tx.replace(**{"scale_by_learning_rate.learning_rate.transition_steps": 8}) == gx.adamw(
        gx.linear_schedule(1.0, 0.0, 8)
    )
    assert tx.replace(nesterov=True, b2=0.9) == gx.adamw(gx.linear_schedule(1.0, 0.0, 4), b2=0.9, nesterov=True)


def test_a_schedule_can_replace_a_number_in_the_middle_of_a_run():
    """Every state has a step count, so its structure does not depend on which hyperparameters are schedules."""
    tx = gx.sgd(0.1, momentum=0.9)
    state = tx.init(PARAMS)
    _, state = tx.update(GRADS, state, PARAMS)
    later = tx.replace(learning_rate=gx.linear_schedule(1.0, 0.0, 4), decay=gx.constant_schedule(0.5))
    later.update(GRADS, state, PARAMS)
    assert float(gx.hyperparameters(later, state)["scale_by_learning_rate.learning_rate"]) == 0.75


def test_a_plain_function_is_a_schedule():
    tx = gx.scale(lambda count: 2.0**count)
    state = tx.init(PARAMS)
    for expected in (0.5, 1.0, 2.0):
        updates, state = jax.jit(lambda tx, g, s: tx.update(g, s))(tx, GRADS, state)
        np.testing.assert_allclose(updates["b"], np.full(3, expected))


class MaximumState(NamedTuple):
    """The state of `scale_by_maximum`."""

    count: jax.Array = gx.rules.counter()
    largest: jax.Array = gx.rules.per_param(signed=False)


class scale_by_maximum(gx.rules.Elementwise, state=MaximumState):
    """Divides each entry of the gradient by the largest absolute value of this entry so far."""

    eps: gx.rules.Hyper = gx.rules.hyper(default=1e-8, gt=0)

    def update_leaf(self, g, slots, p, shared):
        largest = jnp.maximum(slots.largest, jnp.abs(g))
        return g / (largest + self.eps), slots._replace(largest=largest)


class scale_by_value(gx.rules.Treewide, needs=("value", "params")):
    """g times value / |params|."""

    def measure(self, updates, slots, numbers, params, t, *, value):
        return value / gx.tree.norm(params), numbers

    def update_leaf(self, g, slots, p, shared):
        return shared * g, slots


def test_a_rule_of_ones_own():
    tx = gx.chain(scale_by_maximum(), gx.scale(-0.1))
    state = tx.init(PARAMS)
    for g in (1.0, 4.0, 2.0):
        updates, state = jax.jit(tx.update)(jax.tree.map(lambda p, g=g: g * p, PARAMS), state, PARAMS)
    np.testing.assert_allclose(updates["b"], np.full(3, -0.05), rtol=1e-6)
    assert repr(tx) == "chain(scale_by_maximum(eps=1e-08), scale(step_size=-0.1))"
    with pytest.raises(ValueError, match=r"scale_by_maximum: eps must be in \(0, inf\), got 0"):
        scale_by_maximum(0)


def test_a_rule_may_need_an_extra_argument():
    tx = gx.chain(scale_by_value(), gx.scale(1.0))
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=3.0)
    np.testing.assert_allclose(updates["b"], np.full(3, 0.5))
    with pytest.raises(ValueError, match=r"scale_by_value\.update needs `value`, which is missing"):
        tx.update(GRADS, tx.init(PARAMS), PARAMS)


class broken(gx.rules.Elementwise):
    """A broken rule that returns a wrong shape."""

    def update_leaf(self, g: Any, slots: Any, p: Any, shared: Any) -> Any:
        return g[None], slots


def test_a_rule_that_changes_the_shape_is_told():
    with pytest.raises(TypeError, match=r"broken.update_leaf returned an update of shape \(1, 3\)"):
        broken().update(jnp.ones(3), broken().init(jnp.ones(3)))


def test_apply_updates():
    params = {"a": jnp.asarray([1.0], "bfloat16"), "b": None, "c": jnp.asarray(1.0)}
    updates = {"a": jnp.asarray([2.0**-9], "float32"), "b": None, "c": jnp.asarray(-1.0)}
    new = gx.apply_updates(params, updates)
    assert new["a"].dtype == jnp.bfloat16
    assert new["b"] is None
    assert float(new["c"]) == 0.0


def test_the_size_of_a_state():
    state = jax.eval_shape(gx.adam(0.1).init, {"w": jax.ShapeDtypeStruct((10, 10), "bfloat16")})
    assert gx.tree.nbytes(state) == 2 * 4 * 100 + 2 * 4  # two float32 moments, two counters
    assert gx.tree.size(PARAMS) == 9


def test_the_counter_stays_at_its_end():
    tx = gx.scale(gx.linear_schedule(1.0, 0.0, 10))
    state = tx.init(jnp.ones(2))._replace(count=jnp.asarray(np.iinfo(np.int32).max))
    _, state = tx.update(jnp.ones(2), state)
    assert state.count == np.iinfo(np.int32).max


def test_params_and_state_can_be_donated_together():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(0.1))

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return gx.apply_updates(params, updates), state

    params = draw(0)
    state = tx.init(params)
    step = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(2):
        params, state = step(params, state, draw(1))
    assert all(x.is_deleted() is False for x in jax.tree.leaves((params, state)))


def test_optax_inside_and_around():
    """optax's transformations work in gradtx chains, gradtx's work in optax chains, and the results are the same."""

    params, grads = draw(0), draw(1)
    results = []
    for tx in (
        gx.chain(gx.clip_by_global_norm(0.5), optax.adam(0.1)),
        optax.chain(gx.clip_by_global_norm(0.5), gx.adam(0.1)),
        gx.chain(gx.clip_by_global_norm(0.5), gx.adam(0.1)),
    ):
        results.append(tx.update(grads, tx.init(params), params)[0])
    close(results[0], results[2], rtol=1e-12)
    close(results[1], results[2], rtol=1e-12)
