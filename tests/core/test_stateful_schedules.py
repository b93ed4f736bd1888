"""Hyperparameters that follow stateful schedules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx

P = {"w": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}


class Total(gx.rules.StatefulSchedule):
    """A stateful schedule: the sum of an extra argument over all steps so far."""

    def init(self):
        return {"total": jnp.zeros(())}

    def __call__(self, state, **extra):
        return state["total"]

    def update(self, state, **extra):
        return {"total": state["total"] + extra["addendum"]}


class OptaxTotal(optax.schedules.StatefulSchedule):
    init, __call__, update = Total.init, Total.__call__, Total.update


class Loss(gx.rules.StatefulSchedule):
    """A stateful schedule: the latest loss, which it reads from the extra argument `value`."""

    def __init__(self, first=0.25):
        self.first = first

    def init(self):
        return jnp.asarray(self.first)

    def __call__(self, state):
        return state

    def update(self, state, value):
        return value


def run(tx, extras):
    """Returns the updates of all steps and the final state."""
    state, found = tx.init(P), []
    for extra in extras:
        updates, state = jax.jit(tx.update)(P, state, P, **extra)
        found.append(updates)
    return found, state


def test_numbers_and_states_are_optax_s():
    extras = [{"addendum": jnp.asarray(x)} for x in (0.3, 0.2, -0.1)]
    ours, state = run(gx.inject_hyperparams(gx.adamw)(Total(), b1=0.8), extras)
    theirs, expected = run(optax.inject_hyperparams(optax.adamw)(OptaxTotal(), b1=0.8), extras)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)
    np.testing.assert_allclose(state.hyperparams["learning_rate"], expected.hyperparams["learning_rate"])
    np.testing.assert_allclose(state.hyperparams_states["learning_rate"]["total"], 0.4)
    assert set(state.hyperparams_states) == set(expected.hyperparams_states) == {"learning_rate"}
    assert state._fields == expected._fields


def test_a_scan_carries_the_state_and_a_donated_one_is_its_own():
    schedule = Loss()
    tx = gx.inject_hyperparams(gx.sgd)(schedule, momentum=0.9)

    def step(state, value):
        return (tx.update(P, state, value=value)[1], state.hyperparams["learning_rate"])

    state = tx.init(P)
    assert state.hyperparams["learning_rate"] is not state.hyperparams_states["learning_rate"]
    last, _ = jax.jit(lambda s: jax.lax.scan(step, s, jnp.asarray([3.0, 2.0, 1.0])), donate_argnums=0)(state)
    assert last.hyperparams_states["learning_rate"] == 1
    assert last.hyperparams["learning_rate"] == 2
    assert gx.hyperparameters(tx, last)["learning_rate"] == 1


def test_only_what_a_schedule_names_is_accepted():
    tx = gx.inject_hyperparams(gx.sgd)(Loss())
    with pytest.raises(TypeError, match="unknown extra argument 'addendum'"):
        tx.update(P, tx.init(P), value=jnp.asarray(1.0), addendum=jnp.asarray(1.0))
    anything = gx.chain(gx.clip(10.0), gx.inject_hyperparams(gx.sgd)(Total()))
    updates, state = anything.update(P, anything.init(P), addendum=jnp.asarray(0.5))
    updates, _ = anything.update(P, state, addendum=jnp.asarray(0.5))
    np.testing.assert_allclose(updates["w"], -0.5 * P["w"])


def test_a_schedule_can_be_replaced():
    schedule = Loss()
    tx = gx.inject_hyperparams(gx.sgd)(schedule)
    assert gx.hyperparameters(tx)["learning_rate"] is schedule
    fixed = tx.replace(learning_rate=0.75)
    np.testing.assert_allclose(fixed.update(P, fixed.init(P))[0]["w"], -0.75 * P["w"])
    assert not fixed.init(P).hyperparams_states
    other = fixed.replace(learning_rate=Loss(first=2.0))
    np.testing.assert_allclose(other.update(P, other.init(P), value=1.0)[0]["w"], -2.0 * P["w"])


def test_bad_schedules():
    class Counts(Total):
        def init(self):
            return {"total": jnp.zeros((), int)}

    class Grows(Total):
        def update(self, state, **extra):
            return {**state, "more": jnp.zeros(())}

    class Pair(Total):
        def init(self):
            return {"total": jnp.zeros(2)}

    given = {"addendum": jnp.asarray(0.5)}
    tx = gx.inject_hyperparams(gx.sgd)(Counts())
    with pytest.raises(TypeError, match=r"schedule learning_rate has dtype float64 where the last one has int64"):
        tx.update(P, tx.init(P), **given)
    tx = gx.inject_hyperparams(gx.sgd)(Grows())
    with pytest.raises(ValueError, match="the next state of the schedule learning_rate"):
        tx.update(P, tx.init(P), **given)
    with pytest.raises(ValueError, match=r"the value of the schedule learning_rate has shape \(2,\)"):
        gx.inject_hyperparams(gx.sgd)(Pair())
    tx = gx.inject_hyperparams(gx.sgd)(Total())
    bad = tx.init(P)._replace(hyperparams_states={})
    with pytest.raises(ValueError, match="hyperparams_states"):
        tx.update(P, bad, **given)
