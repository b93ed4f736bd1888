"""Metrics equal NumPy's results, and no parameter name is taken for a metric."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx import select
from tests.cases import close, draw, finite

PARAMS = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([12.0])}
GRADS = {"w": jnp.array([6.0, 8.0]), "b": jnp.array([0.0])}


def norm(*arrays):
    return np.sqrt(sum(np.sum(np.abs(np.asarray(x)) ** 2) for x in arrays))


def numbers(state):
    return {name: np.asarray(x).item() for name, x in gx.metrics(state).items()}


@pytest.mark.parametrize("jit", [False, True])
def test_the_numbers_of_a_step(jit):
    groups = {"b": select.path("b"), "all": lambda p: jax.tree.map(lambda _: True, p), "w": {"w": True, "b": False}}
    tx = gx.with_metrics(gx.chain(gx.clip_by_global_norm(5.0), gx.adamw(0.1, weight_decay=0.5)), groups=groups)
    update = jax.jit(tx.update) if jit else tx.update
    params, state = PARAMS, tx.init(PARAMS)
    for i in range(3):
        grads = jax.tree.map(lambda g, i=i: (i + 1) * g, GRADS)
        updates, state = update(grads, state, params)
        found = numbers(state)
        length = 10.0 * (i + 1)
        expected = {
            "clip_factor": min(1.0, 5 / length),
            "finite": True,
            "grad_norm": length,
            "learning_rate": 0.1,
            "param_norm": norm(*params.values()),
            "update_norm": norm(*updates.values()),
            "update_ratio": norm(*updates.values()) / norm(*params.values()),
            "update_ratio/all": norm(*updates.values()) / norm(*params.values()),
            "update_ratio/b": norm(updates["b"]) / norm(params["b"]),
            "update_ratio/w": norm(updates["w"]) / norm(params["w"]),
        }
        assert found == pytest.approx(expected, rel=1e-12)
        assert found["finite"] is True
        params = gx.apply_updates(params, updates)
    assert all(np.shape(x) == () for x in gx.metrics(state).values())


def test_before_the_first_step_all_are_zeros_and_nothing_was_infinite():
    """Before the first step all metrics are zero, with the names and dtypes that they have later."""
    tx = gx.with_metrics(gx.adam(gx.linear_schedule(0.1, 0.0, 5)), groups={"w": select.path("w")})
    state = tx.init(PARAMS)
    _, after = tx.update(GRADS, state, PARAMS)
    assert {name for name, x in numbers(state).items() if x} == {"finite"}
    for before, now in zip(gx.metrics(state).items(), gx.metrics(after).items(), strict=True):
        assert (before[0], before[1].dtype) == (now[0], now[1].dtype)
    assert jax.tree.structure(state) == jax.tree.structure(after)


def test_the_updates_are_those_without_it():
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adam(0.1))
    plain, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    close(gx.with_metrics(tx).update(GRADS, gx.with_metrics(tx).init(PARAMS), PARAMS)[0], plain, rtol=0)
    with pytest.raises(ValueError, match="needs `params`"):
        gx.with_metrics(tx).update(GRADS, gx.with_metrics(tx).init(PARAMS))


def rates(tx, steps=3):
    state, found = tx.init(PARAMS), []
    for _ in range(steps):
        _, state = tx.update(GRADS, state, PARAMS)
        found.append({name: x for name, x in numbers(state).items() if "learning_rate" in name})
    return found


def test_the_learning_rate_is_what_was_used():
    """With a schedule, an array, in the state, inside accumulation, as several in groups."""
    schedule = gx.linear_schedule(0.4, 0.0, 4)
    expected = [{"learning_rate": x} for x in (0.4, 0.3, 0.2)]
    for tx in (
        gx.sgd(schedule),
        gx.adamw(schedule),
        gx.chain(gx.clip(1.0), gx.apply_if_finite(gx.sgd(schedule))),
        gx.inject_hyperparams(gx.sgd)(schedule),
        gx.accumulate(gx.sgd(schedule), 1),
    ):
        assert [pytest.approx(x) for x in rates(gx.with_metrics(tx))] == expected
    assert rates(gx.with_metrics(gx.sgd(jnp.float32(0.5))), 1) == [{"learning_rate": 0.5}]
    two = gx.partition({"fast": gx.sgd(schedule), "slow": gx.sgd(0.01)}, {"w": "fast", "b": "slow"})
    found = rates(gx.with_metrics(two), 2)[1]
    assert found == pytest.approx(
        {
            "learning_rate/fast.scale_by_learning_rate": 0.3,
            "learning_rate/slow.scale_by_learning_rate": 0.01,
        }
    )
    # Between two steps it is the learning rate of the previous step; before the first step it is zero.
    found = rates(gx.with_metrics(gx.accumulate(gx.sgd(schedule), 2)), 4)
    assert [pytest.approx(x["learning_rate"]) for x in found] == [0.0, 0.4, 0.4, 0.3]


def test_the_learning_rate_of_joined_schedules():
    joined = gx.join_schedules(
        [gx.linear_schedule(0.0, 0.4, 2), gx.constant_schedule(0.4), gx.constant_schedule(0.1)], [2, 3]
    )
    expected = [0.0, 0.2, 0.4, 0.1]
    for tx, every in ((gx.sgd(joined), 1), (gx.accumulate(gx.adam(joined), 2), 2)):
        found = [x["learning_rate"] for x in rates(gx.with_metrics(tx), 4 * every)]
        assert found[every - 1 :: every] == pytest.approx(expected)


@pytest.mark.parametrize("jit", [False, True])
def test_the_learning_rate_of_each_group_is_that_of_its_own_last_step(jit):
    """One group accumulates, one skips what is not finite, one steps every time."""
    schedule = gx.linear_schedule(0.4, 0.0, 4)
    groups = {
        "every": gx.sgd(schedule),
        "second": gx.accumulate(gx.chain(gx.sgd(schedule), plateau()), 2),
        "finite": gx.apply_if_finite(gx.sgd(schedule), 10),
    }
    tx = gx.with_metrics(gx.partition(groups, {"a": "every", "b": "second", "c": "finite"}))
    params = {name: jnp.ones(2) for name in "abc"}
    step, state, found = jax.jit(tx.update) if jit else tx.update, tx.init(params), []
    for c in (1.0, jnp.nan, jnp.inf, 1.0):
        _, state = step(params | {"c": jnp.full(2, c)}, state, params, value=1.0)
        values = gx.metrics(state)
        names = ("every", "second.inner", "finite.inner")
        found.append([float(values[f"learning_rate/{name}.scale_by_learning_rate"]) for name in names])
    np.testing.assert_allclose(found, [[0.4, 0, 0.4], [0.3, 0.4, 0.4], [0.2, 0.4, 0.4], [0.1, 0.15, 0.3]], rtol=1e-6)


def test_the_learning_rate_of_a_plain_function():
    assert rates(gx.with_metrics(gx.sgd(lambda count: 1.0 / (count + 1))), 2)[1] == pytest.approx(
        {"learning_rate": 0.5}
    )


def test_inside_and_outside_of_wrappers():
    """All metrics of all wrappers are reported: skipped steps, the loss scale, streaks."""
    tx = gx.dynamic_loss_scale(
        gx.accumulate(gx.with_metrics(gx.adam(0.1)), 2, should_skip_update_fn=gx.skip_not_finite), 4.0
    )
    state = tx.init(PARAMS)
    for scale in (1.0, jnp.inf, 3.0):
        _, state = tx.update(jax.tree.map(lambda g, s=scale: g * s, GRADS), state, PARAMS)
    found = numbers(state)
    assert (found["loss_scale"], found["skipped"], found["gradient_step"], found["mini_step"]) == (2.0, 1, 1, 0)
    assert found["grad_norm"] == pytest.approx((10 / 4 + 30 / 2) / 2)


def test_a_name_of_a_parameter_confuses_nothing():
    """A path of keys that looks like the name of a metric is not taken for a metric either."""
    names = ("mu", "nu", "clip_factor", "grad_norm", "skipped", "values", "measurement", "learning_rate", "count")
    params = {name: jnp.array(float(i + 1)) for i, name in enumerate(names)}
    nested = {"inner_state": params, "values": {"grad_norm": jnp.ones(()), "mu": jnp.ones(())}}
    tx = gx.apply_if_finite(gx.with_metrics(gx.chain(gx.clip_by_global_norm(1.0), gx.ema_params(gx.adam(0.1)))))
    expected = None
    for tree in ({"x": jnp.ones(())}, params, nested, nested | {"": jnp.ones(())}):
        _, state = tx.update(tree, tx.init(tree), tree)
        found = numbers(state)
        assert expected is None or list(found) == list(expected)
        expected = found
        assert found["grad_norm"] == pytest.approx(norm(*jax.tree.leaves(tree)))
        assert found["clip_factor"] == pytest.approx(1 / found["grad_norm"])
    assert gx.metrics(params) == {}
    assert gx.metrics(gx.adam(0.1).init(params)) == {}


def test_two_parts_with_the_same_name_come_with_their_paths():
    clip = gx.clip_by_global_norm(1.0)
    tx = gx.named_chain(("first", clip), ("second", gx.clip_by_global_norm(0.5)), ("third", gx.trace(0.9)))
    _, state = tx.update(GRADS, tx.init(PARAMS))
    assert numbers(state) == pytest.approx({"first/clip_factor": 0.1, "second/clip_factor": 0.5})
    tx = gx.chain(gx.apply_if_finite(gx.sgd(1.0)), gx.with_metrics(gx.sgd(0.1)))
    _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    found = numbers(state)
    assert found["grad_norm"] == pytest.approx(10.0)
    assert len([name for name in found if name.endswith("finite")]) == 2
    assert "finite" not in found
    assert len(found) == len(set(found))


def test_metrics_of_states_in_a_tree_of_the_user():
    """A state may be in a dict next to parameters and step counts, or in an optax chain."""
    tx = optax.chain(gx.clip_by_global_norm(5.0), optax.scale(-1.0))
    _, state = tx.update(GRADS, tx.init(PARAMS))
    assert numbers({"params": {"clip_factor": PARAMS}, "opt": state, "step": 3}) == pytest.approx({"clip_factor": 0.5})


def test_under_jit_scan_and_vmap():
    tx = gx.with_metrics(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1)))

    @jax.jit
    def train(scale):
        def step(state, i):
            _, state = tx.update(jax.tree.map(lambda g: g * (i + 1) * scale, GRADS), state, PARAMS)
            return state, gx.metrics(state)

        return jax.lax.scan(step, tx.init(PARAMS), jnp.arange(3))[1]

    found = jax.vmap(train)(jnp.array([1.0, 0.01]))
    np.testing.assert_allclose(found["grad_norm"], [[10, 20, 30], [0.1, 0.2, 0.3]], rtol=1e-12)
    np.testing.assert_allclose(found["clip_factor"], [[0.1, 0.05, 1 / 30], [1, 1, 1]], rtol=1e-12)


def test_reading_metrics_computes_nothing():
    tx = gx.with_metrics(gx.apply_if_finite(gx.chain(gx.clip_by_global_norm(1.0), gx.sgd(0.1))))
    assert not jax.make_jaxpr(gx.metrics)(tx.init(PARAMS)).eqns


def test_what_is_not_finite_shows():
    tx = gx.with_metrics(gx.apply_if_finite(gx.sgd(0.1)))
    _, state = tx.update({"w": jnp.array([jnp.nan, 1.0]), "b": jnp.ones(1)}, tx.init(PARAMS), PARAMS)
    found = numbers(state)
    assert np.isnan(found["grad_norm"])
    assert (found["update_norm"], found["update_ratio"]) == (0.0, 0.0)
    assert [x for name, x in found.items() if name.endswith("finite")] == [False, False]
    assert found["skipped"] == 1


def test_empty_and_zero_parameters():
    """No ratio is NaN: with zero norms it is zero or large."""
    tx = gx.with_metrics(gx.sgd(0.1), groups={"none": select.maybe(select.path("no"))})
    for tree in ({}, {"w": jnp.zeros(2)}, {"w": jnp.zeros((0,))}):
        _, state = tx.update(tree, tx.init(tree), tree)
        assert finite(gx.metrics(state))


def test_norms_of_16_bit_trees_are_wide():
    params = {"w": jnp.full(100, 300.0, "float16")}
    tx = gx.with_metrics(gx.sgd(1.0))
    _, state = tx.update(params, tx.init(params), params)
    found = gx.metrics(state)
    assert found["grad_norm"].dtype == "float32"
    close(found["grad_norm"], jnp.float32(3000))


def test_bad_groups():
    for groups in ([select.path("w")], {"x": 3}, {"x": {"w": 1, "b": True}}):
        with pytest.raises(TypeError, match="groups"):
            gx.with_metrics(gx.sgd(0.1), groups=groups)
    with pytest.raises(ValueError, match="matches no leaf"):
        gx.with_metrics(gx.sgd(0.1), groups={"x": select.path("x")}).init(PARAMS)


# --- monitor, snapshot


def count_zeros(updates):
    return sum(jnp.sum(x == 0) for x in jax.tree.leaves(updates))


@pytest.mark.parametrize("jit", [False, True])
def test_monitor_and_snapshot_are_those_of_optax(jit):
    grads = [draw(i) for i in range(3)]

    def run(library, gx_or_optax):
        tx = library.chain(
            gx_or_optax.snapshot("before", gx.tree.norm),
            library.clip(0.5),
            gx_or_optax.monitor(
                {
                    "largest": lambda updates: functools.reduce(jnp.maximum, map(jnp.max, jax.tree.leaves(updates))),
                    "smooth": gx_or_optax.measure_with_ema(gx.tree.norm, 0.7),
                    "biased": gx_or_optax.measure_with_ema(gx.tree.norm, 0.7, debias=False),
                }
            ),
            library.scale(-0.1),
        )

        def steps(grads):
            state = tx.init(draw(0))
            for g in grads:
                updates, state = tx.update(g, state)
            return updates, state

        updates, state = (jax.jit(steps) if jit else steps)(grads)
        return updates, state[0].measurement, state[2].measurements

    ours, theirs = run(gx, gx), run(optax, optax)
    close(ours, theirs, rtol=1e-12)


def test_measurements_are_metrics():
    """Scalars by their names, in front of and behind a link; the updates stay as they are."""
    measure = {"zeros": count_zeros, "tree": lambda g: jax.tree.map(jnp.sum, g), "norm": gx.tree.norm}
    tx = gx.chain(gx.snapshot("norm_before", gx.tree.norm), gx.clip_by_global_norm(5.0), gx.monitor(measure))
    state = tx.init(PARAMS)
    updates, after = tx.update(GRADS, state)
    close(updates, jax.tree.map(lambda g: g / 2, GRADS))
    found = numbers(after)
    assert found.pop("norm") == pytest.approx(5.0)
    assert {name: found[name] for name in ("norm_before", "zeros", "clip_factor")} == pytest.approx(
        {"norm_before": 10.0, "zeros": 1, "clip_factor": 0.5}
    )
    close(after[2].measurements["tree"], {"w": jnp.array(7.0), "b": jnp.array(0.0)})
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (state, after)]
    assert kinds[0] == kinds[1]


def test_a_measurement_of_every_parameter_hides_no_other():
    """A tree of measurements may have a parameter with the name of another measurement."""
    params = {"norm": jnp.array([3.0, 4.0]), "clip_factor": jnp.array([12.0])}
    sums = {"norm": gx.tree.norm, "sums": lambda g: jax.tree.map(jnp.sum, g)}
    tx = gx.chain(gx.monitor(sums), gx.clip_by_global_norm(1.0))
    _, state = tx.update(params, tx.init(params))
    found = numbers(state)
    assert found["norm"] == pytest.approx(13.0)
    assert found["clip_factor"] == pytest.approx(1 / 13)


def test_bad_measures():
    for call in (
        lambda: gx.monitor(gx.tree.norm),
        lambda: gx.monitor({"norm": 3}),
        lambda: gx.snapshot("norm", 3),
        lambda: gx.measure_with_ema(3, 0.9),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(ValueError, match="decay"):
        gx.measure_with_ema(gx.tree.norm, 1.5)


def plateau():
    return gx.reduce_on_plateau(factor=0.5, patience=1)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: gx.chain(gx.sgd(0.4), plateau()),
        lambda: gx.chain(plateau(), gx.sgd(0.4)),
        lambda: gx.named_chain(("rate", gx.sgd(0.4)), ("wait", gx.apply_if_finite(plateau()))),
        lambda: gx.apply_if_finite(gx.chain(gx.chain(plateau()), gx.sgd(0.4))),
        lambda: gx.accumulate(gx.chain(gx.sgd(0.4), plateau()), 1),
        lambda: gx.partition({"all": gx.chain(gx.sgd(0.4), plateau())}, "all"),
        lambda: gx.inject_hyperparams(lambda learning_rate: gx.chain(gx.sgd(learning_rate), plateau()))(0.4),
        lambda: gx.chain(gx.sgd(gx.constant_schedule(0.4)), plateau()),
    ],
)
def test_the_learning_rate_is_the_one_used_on_a_plateau(make, jit):
    tx, params = gx.with_metrics(make()), {"w": jnp.ones(2)}
    step = jax.jit(tx.update) if jit else tx.update
    state = tx.init(params)
    for t in range(4):
        updates, state = step(params, state, params, value=1.0)
        found = gx.metrics(state)
        assert float(found["lr_scale"]) == 0.5**t
        np.testing.assert_allclose(found["learning_rate"], 0.4 * 0.5**t, rtol=1e-6)
        np.testing.assert_allclose(updates["w"], -found["learning_rate"], rtol=1e-6)


def test_two_plateaus_multiply_and_groups_have_their_own():
    two = gx.with_metrics(gx.chain(gx.sgd(0.4), plateau(), plateau()))
    groups = gx.with_metrics(
        gx.partition({"a": gx.chain(gx.sgd(0.4), plateau()), "b": gx.sgd(0.2)}, {"w": "a", "v": "b"})
    )
    params = {"w": jnp.ones(2), "v": jnp.ones(1)}
    states = [two.init(params), groups.init(params)]
    for _ in range(2):
        states = [tx.update(params, s, params, value=1.0)[1] for tx, s in zip((two, groups), states, strict=True)]
    np.testing.assert_allclose(gx.metrics(states[0])["learning_rate"], 0.1)
    found = gx.metrics(states[1])
    np.testing.assert_allclose(found["learning_rate/a.scale_by_learning_rate"], 0.2)
    np.testing.assert_allclose(found["learning_rate/b.scale_by_learning_rate"], 0.2)
