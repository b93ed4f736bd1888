"""Averages of the iterates against their definitions, in NumPy; lookahead and schedule-free learning against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import gradtx as gx
from tests.cases import at, close, draw, stack

START = draw(0)
GRADS = stack([draw(i + 1) for i in range(20)])
FLAT = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)))
RATE = 0.1


def train(tx, params=START, grads=GRADS, **extra):
    """Returns the parameters before each step, the parameters after each step, and the states."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params, **extra)
        new = gx.apply_updates(params, updates)
        return (new, state), (params, new, state)

    return jax.lax.scan(step, (params, tx.init(params)), grads)[1]


def averages(tx):
    """Parameters before and after each step of descent in three dimensions, and the averages, as NumPy arrays."""
    before, after, states = jax.jit(lambda: train(tx, jnp.zeros(3), FLAT))()
    found = [gx.averaged_params(at(states, i)) for i in range(len(FLAT))]
    return np.asarray(before), np.asarray(after), np.asarray(found)


@pytest.mark.parametrize("debias", [True, False])
def test_ema(debias):
    decay = 0.8
    before, after, found = averages(gx.ema_params(gx.sgd(RATE), decay, debias))
    mean, weight = (0.0, 0.0) if debias else (before[0], 1.0)
    for x, e in zip(after, found, strict=True):
        mean, weight = decay * mean + (1 - decay) * x, decay * weight + (1 - decay)
        np.testing.assert_allclose(e, mean / weight, rtol=1e-12)
    np.testing.assert_allclose(after[-1], -RATE * FLAT.sum(0), rtol=1e-12)


def test_ema_with_a_schedule():
    """The averaging weight of each iterate follows from its own decay rate and all later decay rates."""
    schedule = gx.linear_schedule(0.1, 0.9, 10)
    _, after, found = averages(gx.ema_params(gx.sgd(RATE), schedule))
    mean = weight = 0.0
    for t, (x, e) in enumerate(zip(after, found, strict=True)):
        decay = float(schedule(t))
        mean, weight = decay * mean + (1 - decay) * x, decay * weight + (1 - decay)
        np.testing.assert_allclose(e, mean / weight, rtol=1e-12)


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize(
    "weights",
    [None, 0.3, gx.linear_schedule(1.0, 0.1, 8), lambda t: t + 1.0],
    ids=["none", "number", "schedule", "function"],
)
def test_polyak_average(weights, start):
    """sum w_t x_t / sum w_t, where x_t is what step t's gradient was taken at; before the start, the latest."""
    before, _, found = averages(gx.polyak_average(gx.sgd(RATE), weights, start))
    w = [float(weights(t)) if callable(weights) else 1.0 for t in range(len(before))]
    for t, average in enumerate(found):
        expected = before[t] if t < start else np.average(before[start : t + 1], axis=0, weights=w[start : t + 1])
        np.testing.assert_allclose(average, expected, rtol=1e-12, atol=1e-15)


def test_polyak_average_with_weights_that_are_zero():
    """While the learning rate (the averaging weight) is still zero, the average equals the latest parameters, not
    NaN."""
    before, _, found = averages(gx.polyak_average(gx.sgd(RATE), gx.linear_schedule(0.0, 1.0, 4)))
    np.testing.assert_allclose(found[0], before[0])
    w = np.minimum(np.arange(12) / 4, 1)
    np.testing.assert_allclose(found[-1], np.average(before, axis=0, weights=w), rtol=1e-12)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (3, 1), (3, 4), (1, 5)])
def test_swa(start, every):
    _, after, found = averages(gx.swa(gx.sgd(RATE), start, every))
    for t, average in enumerate(found):
        expected = after[t] if t < start else after[start : t + 1 : every].mean(0)
        np.testing.assert_allclose(average, expected, rtol=1e-12, atol=1e-15)


AROUND = {
    "plain": lambda tx: tx,
    "chain": lambda tx: gx.chain(gx.clip_by_global_norm(1e9), tx),
    "with_metrics": gx.with_metrics,
    "apply_if_finite": gx.apply_if_finite,
    "partition": lambda tx: gx.partition({"all": tx}, "all"),
    "masked": lambda tx: gx.masked(tx, gx.select.everything()),
    "optax": lambda tx: optax.chain(optax.clip(1e9), tx),
    "accumulate": lambda tx: gx.accumulate(tx, 1),
    "all": lambda tx: gx.with_metrics(gx.apply_if_finite(gx.accumulate(gx.chain(gx.clip(1e9), tx), 1))),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_an_average_is_found_anywhere(around):
    tx = around(gx.polyak_average(gx.sgd(RATE)))
    params, state = {"mu": jnp.zeros(3)}, None
    state, seen = tx.init(params), []
    for g in FLAT[:3]:
        seen.append(params["mu"])
        updates, state = tx.update({"mu": g}, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    close(jax.tree.leaves(gx.averaged_params(state))[0], sum(seen) / 3, rtol=1e-9)


def test_accumulation_averages_one_iterate_a_step():
    """The average is over the steps of the inner transformation, not over micro-batches."""
    tx = gx.accumulate(gx.polyak_average(gx.sgd(RATE)), 2)
    before, _, states = jax.jit(lambda: train(tx, jnp.zeros(3), FLAT))()
    close(gx.averaged_params(at(states, 11)), before[1::2].mean(0), rtol=1e-12)


def test_a_skipped_step_does_not_count():
    tx = gx.apply_if_finite(gx.ema_params(gx.sgd(RATE), 0.5))
    grads = FLAT[:3].at[1, 0].set(jnp.nan)
    _, after, states = train(tx, jnp.zeros(3), grads)
    close(gx.averaged_params(at(states, 2)), (after[0] * 0.25 + after[2] * 0.5) / 0.75, rtol=1e-12)


def test_of_an_average_there_must_be_one():
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="0 averages"):
        gx.averaged_params(gx.adam(0.1).init(params))
    two = gx.chain(gx.ema_params(gx.sgd(0.1)), gx.average_of_params()).init(params)
    with pytest.raises(ValueError, match="2 averages"):
        gx.averaged_params(two)
    close(gx.averaged_params(two[0]), params)
    with pytest.raises(ValueError, match="params"):
        gx.ema_params(gx.sgd(0.1)).update(params, gx.ema_params(gx.sgd(0.1)).init(params))


def test_before_the_first_step_an_average_is_the_parameters():
    """In float32 or wider, and in arrays of their own."""
    params = {"a": jnp.array([1.5], "bfloat16"), "b": jnp.array([2.5])}
    for wrap in (gx.ema_params, gx.polyak_average, lambda tx: gx.swa(tx, 3)):
        average = gx.averaged_params(wrap(gx.sgd(0.1)).init(params))
        assert (average["a"].dtype, average["b"].dtype) == ("float32", "float64")
        close(average, params)
        assert average["b"].unsafe_buffer_pointer() != params["b"].unsafe_buffer_pointer()


def test_a_small_step_is_not_lost_in_the_average_of_16_bits():
    """1 - decay is below the resolution of bfloat16, but the average still moves."""
    tx = gx.ema_params(gx.sgd(1.0), 0.999, debias=False)
    params = jnp.ones(1, "bfloat16")
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update(-params, state, params)
    close(gx.averaged_params(state), jnp.array([2 - 0.999**3], "float32"), rtol=1e-6)


# --- lookahead


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("inner", ["sgd(0.1, momentum=0.9)", "adam(0.1)"])
def test_lookahead_is_that_of_optax(inner, reset):
    """The parameters are optax's fast ones, the slow weights in the state its slow ones."""

    def theirs():
        tx = optax.lookahead(eval(inner, vars(optax)), 3, 0.4, reset)
        params = optax.LookaheadParams.init_synced(START)

        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, tx.init(params)), GRADS)[1]

    expected = jax.jit(theirs)()
    _, after, states = jax.jit(lambda: train(gx.lookahead(eval(inner, vars(gx)), 3, 0.4, reset)))()
    close(after, expected.fast, rtol=1e-10, atol=1e-13)
    close(states[-1].slow, expected.slow, rtol=1e-10, atol=1e-13)


def test_lookahead_with_plain_steps():
    """Every third step leads to the slow weights, which have gone half way."""
    tx = gx.lookahead(gx.sgd(1.0), 3, 0.5)
    params, state = jnp.array([6.0]), None
    state, seen = tx.init(params), []
    for _ in range(6):
        updates, state = tx.update(jnp.ones(1), state, params)
        params = params + updates
        seen.append((float(params[0]), float(state[-1].slow[0])))
    assert seen == [(5.0, 6.0), (4.0, 6.0), (4.5, 4.5), (3.5, 4.5), (2.5, 4.5), (3.0, 3.0)]


# --- schedule-free


def theirs_schedule_free(tx):
    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, optax.contrib.schedule_free_eval_params(state, params))

    return jax.lax.scan(step, (START, tx.init(START)), GRADS)[1]


@pytest.mark.parametrize(
    "expression",
    [
        "schedule_free(sgd(0.1), 0.1, b1=0.8)",
        "schedule_free(adam(0.1, b1=0.0), 0.1, weight_lr_power=0.0)",
        "schedule_free_sgd(0.1, weight_decay=0.1)",
        "schedule_free_adamw(0.1, weight_decay=0.1)",
    ],
)
def test_schedule_free_evaluates_where_optax_does(expression):
    tx = eval(expression, vars(gx))
    reference = eval(expression, {**vars(optax), **vars(optax.contrib)})
    params, averages = jax.jit(lambda: theirs_schedule_free(reference))()
    _, after, states = jax.jit(lambda: train(tx))()
    close(after, params, rtol=1e-10, atol=1e-13)
    last = at(states, 19), at(after, 19)
    close(gx.schedule_free_eval_params(*last), at(averages, 19), rtol=1e-10, atol=1e-13)


def transcribed(rates, b1, power, grads, start, base):
    """The formula of the module: y, and x after every step; `base(t, g, y)` is the base's step."""
    x = z = y = start
    largest, total, found = 0.0, 0.0, []
    for t, g in enumerate(grads):
        largest = max(largest, rates[t])
        weight = largest**power
        total += weight
        c = weight / total if total else 0.0
        z = z + base(t, g, y)
        x = (1 - c) * x + c * z
        y = (1 - b1) * z + b1 * x
        found.append((y, x))
    return found


def test_schedule_free_with_a_warm_up():
    """Against the formula: every step is weighted by its own rate, the first one's zero too."""
    rates = [0.1 * min(t / 5, 1) for t in range(12)]
    tx = gx.schedule_free_sgd(0.1, 5, b1=0.8, weight_decay=0.3)
    _, after, states = jax.jit(lambda: train(tx, jnp.ones(3), FLAT))()
    expected = transcribed(rates, 0.8, 2, np.asarray(FLAT), np.ones(3), lambda t, g, y: -rates[t] * (g + 0.3 * y))
    for t, (y, x) in enumerate(expected):
        np.testing.assert_allclose(after[t], y, rtol=1e-12)
        average = gx.schedule_free_eval_params(at(states, t), at(after, t))
        np.testing.assert_allclose(average, x, rtol=1e-11)


@pytest.mark.parametrize("make", [gx.schedule_free_sgd, gx.schedule_free_adamw])
def test_a_schedule_with_a_warm_up_of_its_own_is_refused(make):
    with pytest.raises(TypeError, match=f"{make.__name__}: learning_rate with warmup_steps must be a number"):
        make(gx.linear_schedule(0.1, 0.0, 10), 5)


def test_schedule_free_adamw_against_the_formula():
    rates = [0.1 * min(t / 3, 1) for t in range(12)]
    b2, eps, decay, nu = 0.9, 1e-6, 0.2, [np.zeros(3)]

    def base(t, g, y):
        nu.append(b2 * nu[-1] + (1 - b2) * g**2)
        return -rates[t] * (g / (np.sqrt(nu[-1] / (1 - b2 ** (t + 1))) + eps) + decay * y)

    tx = gx.schedule_free_adamw(0.1, 3, b2=b2, eps=eps, weight_decay=decay, weight_lr_power=1.0)
    _, after, _ = jax.jit(lambda: train(tx, jnp.ones(3), FLAT))()
    expected = transcribed(rates, 0.9, 1, np.asarray(FLAT), np.ones(3), base)
    np.testing.assert_allclose(after, [y for y, _ in expected], rtol=1e-10)


@pytest.mark.parametrize("around", ["chain", "optax", "all"])
def test_schedule_free_evaluation_parameters_are_found_anywhere(around):
    params = {"a": jnp.ones(2)}
    plain, found = gx.schedule_free_sgd(0.1), []
    for tx in (AROUND[around](plain), plain):
        updates, state = tx.update(params, tx.init(params), params)
        found.append(gx.schedule_free_eval_params(state, jax.tree.map(jnp.add, params, updates)))
    close(*found, rtol=1e-9)
    with pytest.raises(ValueError, match="0 schedule_free"):
        gx.schedule_free_eval_params(gx.adam(0.1).init(params), params)
