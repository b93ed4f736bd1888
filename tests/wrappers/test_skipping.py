"""Skipped steps: gradients that are not finite, spikes, overflows of a scaled loss, and conditions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx import rules
from tests.cases import close, draw, finite

NAN, INF = jnp.nan, jnp.inf
ZERO = jnp.zeros(2)


def entries(*values):
    return [jnp.array([x, 1.0]) for x in values]


def run(tx, grads, params=ZERO, **extra):
    """Returns the updates and the states of eager steps."""
    state, updates, states = tx.init(params), [], []
    for g in grads:
        u, state = tx.update(g, state, params, **extra)
        updates.append(u)
        states.append(state)
    return updates, states


def scanned(tx, grads, params=ZERO):
    """Does the same as `run` in one compiled program."""

    def steps(grads):
        return jax.lax.scan(lambda s, g: (lambda u, s: (s, (u, s)))(*tx.update(g, s, params)), tx.init(params), grads)[
            1
        ]

    updates, states = jax.jit(steps)(jnp.stack(grads))
    return list(updates), [jax.tree.map(lambda x, i=i: x[i], states) for i in range(len(grads))]


# --- apply_if_finite


@pytest.mark.parametrize("steps", [run, scanned])
def test_a_streak_counts_and_resets(steps):
    """`max_consecutive_errors` has no effect on the policy 'skip': NaN never gets through."""
    grads = entries(1.0, NAN, INF, 2.0, -INF, NAN, NAN, NAN, 3.0)
    updates, states = steps(gx.apply_if_finite(gx.sgd(1.0), 1), grads)
    close([float(u[0]) for u in updates], [-1.0, 0, 0, -2.0, 0, 0, 0, 0, -3.0])
    assert [int(s.notfinite_count) for s in states] == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    assert [int(s.total_notfinite) for s in states] == [0, 1, 2, 2, 3, 4, 5, 6, 6]
    assert [bool(s.last_finite) for s in states] == [True, False, False, True, False, False, False, False, True]


@pytest.mark.parametrize("steps", [run, scanned])
def test_the_inner_state_rests_on_a_skipped_step(steps):
    grads = entries(1.0, NAN, 2.0, INF, 3.0)
    tx = gx.adam(0.1)
    updates, states = steps(gx.apply_if_finite(tx), grads)
    expected, inner = steps(tx, entries(1.0, 2.0, 3.0))
    close([updates[i] for i in (0, 2, 4)], expected)
    close([states[i].inner_state for i in (0, 2, 4)], inner)
    close(states[3].inner_state, inner[1])


@pytest.mark.parametrize("steps", [run, scanned])
def test_the_policy_accept_lets_it_through_and_counts_anew(steps):
    updates, states = steps(gx.apply_if_finite(gx.sgd(1.0), 2, "accept"), entries(NAN, NAN, NAN, NAN, 1.0))
    assert [bool(jnp.isnan(u[0])) for u in updates] == [False, False, True, False, False]
    assert [int(s.notfinite_count) for s in states] == [1, 2, 0, 1, 0]
    assert [int(s.total_notfinite) for s in states] == [1, 2, 3, 4, 4]
    close(updates[4], jnp.array([-1.0, -1.0]))


def test_the_policy_raise():
    """After more than `max_consecutive_errors` in a row, in eager steps at once."""
    tx = gx.apply_if_finite(gx.sgd(1.0), 1, "raise")
    _, states = run(tx, entries(NAN, 1.0, NAN))
    with pytest.raises(FloatingPointError, match="2 steps in a row"):
        tx.update(entries(NAN)[0], states[-1], ZERO)
    updates, _ = tx.update(entries(1.0)[0], states[-1], ZERO)
    close(updates, jnp.array([-1.0, -1.0]))


def test_the_policy_raise_in_a_jitted_step():
    tx = gx.apply_if_finite(gx.sgd(1.0), 1, "raise")
    jitted = jax.jit(tx.update)

    def step(g, state):
        _, state = jax.block_until_ready(jitted(g, state))
        jax.effects_barrier()
        return state

    state = tx.init(ZERO)
    for g in entries(NAN, 1.0, NAN):
        state = step(g, state)
    with pytest.raises(jax.errors.JaxRuntimeError, match="2 steps in a row"):
        step(entries(NAN)[0], state)


@pytest.mark.parametrize("steps", [run, scanned])
def test_a_finite_gradient_whose_update_is_not(steps):
    """The update is zero, and the new state is discarded."""

    def invert(updates, state, params=None):
        return 1 / updates, state + 1 / updates

    inner = gx.GradientTransformation(lambda params: jnp.zeros_like(params), invert)
    updates, states = steps(gx.apply_if_finite(inner), entries(2.0, 0.0, 4.0))
    close(updates, [jnp.array([0.5, 1.0]), ZERO, jnp.array([0.25, 1.0])])
    close(states[2].inner_state, jnp.array([0.75, 2.0]))
    assert [int(s.total_notfinite) for s in states] == [0, 1, 1]


@pytest.mark.parametrize("inner", ["adam(0.1)", "chain(clip_by_global_norm(1.0), sgd(0.1, momentum=0.9))", "lamb(0.1)"])
def test_nan_never_enters_parameters_or_states(inner):
    params, tx = draw(0), gx.apply_if_finite(eval(inner, vars(gx)), 0)

    def step(carry, bad):
        params, state = carry
        g = jax.tree.map(lambda p: p + bad, params)
        g["deep"][0] = g["deep"][0] - bad
        updates, state = tx.update(g, state, params)
        return (gx.apply_updates(params, updates), state), None

    carry = jax.jit(lambda params, bad: jax.lax.scan(step, (params, tx.init(params)), bad)[0])(
        params, jnp.array([0.0, NAN, INF, 0.0, -INF, NAN])
    )
    assert finite(carry)
    assert int(carry[1].total_notfinite) == 4


def test_skipping_inside_a_chain_and_metrics():
    tx = gx.chain(gx.clip(5.0), gx.apply_if_finite(gx.adam(0.1)))
    _, states = run(tx, entries(NAN, 1.0, NAN))
    found = gx.metrics(states[-1])
    assert {name: float(x) for name, x in found.items()} == {"finite": 0.0, "skipped": 2.0, "notfinite_streak": 1.0}


# --- skip_spikes


@pytest.mark.parametrize("steps", [run, scanned])
def test_one_spike_is_skipped(steps):
    rng = np.random.default_rng(0)
    norms = 1 + 0.1 * rng.normal(size=30)
    norms[20] = 30.0
    grads = [jnp.array([x, 0.0]) for x in norms]
    tx = gx.adam(0.1)
    updates, states = steps(gx.skip_spikes(tx, warmup=5), grads)
    assert [i for i, u in enumerate(updates) if not np.any(u)] == [20]
    assert int(states[-1].skipped) == 1
    close(states[20].inner_state, states[19].inner_state, rtol=0)
    expected, _ = steps(tx, grads[:20] + grads[21:])
    close(updates[:20] + updates[21:], expected)


def test_the_averages_are_those_of_the_formula():
    norms, decay, wide = [1.0, 1.3, 0.8, 40.0, 1.1, 0.9, 2.0], 0.9, 3.0
    updates, states = run(gx.skip_spikes(gx.sgd(1.0), wide, decay, 3), [jnp.array([x]) for x in norms], jnp.zeros(1))
    seen, limits = [], []
    for t, x in enumerate(norms):
        if t:
            w = decay ** np.arange(t)[::-1]
            mean = np.average(seen, weights=w)
            # The variance follows West's recurrence: every norm against the mean before it.
            limits.append(mean + wide * max(np.sqrt(float(states[t - 1].norm_variance)), mean / 100))
            np.testing.assert_allclose(states[t - 1].norm_mean, mean, rtol=1e-12)
        skipped = t >= 3 and x > limits[-1]
        seen.append(min(x, limits[-1]) if t >= 3 else x)
        assert bool(updates[t][0] == 0) == skipped
    w = decay ** np.arange(len(seen))[::-1]
    variance = np.average((np.array(seen) - np.average(seen, weights=w)) ** 2, weights=w)
    np.testing.assert_allclose(states[-1].norm_variance, variance, rtol=1e-12)
    assert [float(u[0]) for u in updates][3] == 0


def test_norms_that_stay_large_are_soon_taken_for_normal():
    """After far fewer steps than the decay rate of the averages suggests."""
    grads = [jnp.full(1, 1.0)] * 30 + [jnp.full(1, 100.0)] * 60
    _, states = scanned(gx.skip_spikes(gx.sgd(1.0)), grads, jnp.zeros(1))
    skipped = [int(s.skipped) for s in states]
    assert skipped[29] == 0
    assert 0 < skipped[-1] < 50
    assert skipped[-1] == skipped[-10]


@pytest.mark.parametrize("first", [0.0, 1e-6])
def test_gradients_that_begin_small_are_not_skipped_forever(first):
    """For example, gradients of a layer that starts at zero, or gradients during a warm-up."""
    grads = [jnp.full(1, first)] * 25 + [jnp.full(1, 1.0)] * 175
    updates, _ = scanned(gx.skip_spikes(gx.sgd(1.0)), grads, jnp.zeros(1))
    assert all(u[0] != 0 for u in updates[-20:])


@pytest.mark.parametrize("steps", [run, scanned])
def test_what_is_no_number_is_skipped_from_the_first_step_on(steps):
    updates, states = steps(gx.skip_spikes(gx.sgd(1.0)), entries(NAN, 2.0, INF, 3.0))
    close([float(u[0]) for u in updates], [0.0, -2.0, 0.0, -3.0])
    assert int(states[-1].skipped) == 2
    assert finite(states)


def test_equal_norms_are_no_reason_to_skip():
    updates, _ = run(
        gx.skip_spikes(gx.sgd(1.0), warmup=2), [jnp.full(1, x) for x in (1.0,) * 5 + (1.02,)], jnp.zeros(1)
    )
    assert all(u[0] != 0 for u in updates)


def test_deviations_in_float64_do_not_widen_the_averages():
    """A schedule's numbers are float64 where JAX has it, and the state of float32 parameters is not."""
    tx, p = gx.skip_spikes(gx.sgd(1.0), gx.linear_schedule(6.0, 3.0, 10)), jnp.zeros(2, "float32")
    state = tx.init(p)
    after = jax.eval_shape(tx.update, p, state)[1]
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]


# --- dynamic_loss_scale


def test_a_float16_problem_whose_gradients_underflow():
    """Gradients below 1e-8 are zero in float16; with loss scaling they are not, and the model learns."""
    target, small = jnp.array([1.0, -2.0], "float32"), 2.0**-14

    def loss(params, x):
        out = params.astype("float16") * jnp.float16(small) * x
        return jnp.sum((out.astype("float32") - target * small) ** 2)

    start, x = jnp.zeros(2, "float32"), jnp.float16(1.0)
    assert not np.any(jax.grad(loss)(start, x))
    tx = gx.dynamic_loss_scale(gx.adam(0.05), growth_interval=5)
    step = gx.value_and_step(loss, tx)

    @jax.jit
    def train(params, state):
        return jax.lax.scan(lambda carry, _: (step(*carry, x)[:2], None), (params, state), None, 300)[0]

    params, state = train(start, tx.init(start))
    np.testing.assert_allclose(params, target, atol=0.05)
    assert float(gx.loss_scale(state)) > 2**15


@pytest.mark.parametrize("steps", [run, scanned])
def test_the_scale_halves_and_doubles(steps):
    tx = gx.dynamic_loss_scale(gx.sgd(1.0), 8.0, growth_interval=2, min_scale=2.0, max_scale=16.0)
    grads = entries(8.0, 8.0, 16.0, INF, 8.0, NAN, NAN, NAN, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 16.0, 16.0)
    updates, states = steps(tx, grads)
    scales = [8, 16, 16, 8, 8, 4, 2, 2, 2, 4, 4, 8, 8, 16, 16, 16]
    assert [float(s.loss_scale) for s in states] == scales
    before = [8, *scales[:-1]]
    expected = [-float(g[0]) / s if np.isfinite(g[0]) else 0.0 for g, s in zip(grads, before, strict=True)]
    close([float(u[0]) for u in updates], expected)
    assert int(states[-1].skipped) == 4
    assert states[-1].loss_scale.dtype == "float32"


def test_what_is_inside_sees_the_true_gradients():
    """Clipping also works in float32 on the true gradients; the update has the gradients' dtype, float16."""
    tx = gx.dynamic_loss_scale(gx.chain(gx.clip_by_global_norm(1e-6), gx.sgd(1.0)), 2.0**10)
    grads = jnp.array([3.0, 4.0], "float16")
    updates, state = tx.update(grads, tx.init(grads))
    assert updates.dtype == "float16"
    close(updates, -jnp.array([0.6e-6, 0.8e-6]), rtol=0.1)
    close(gx.metrics(state)["clip_factor"], jnp.float32(1e-6 / (5 / 2**10)), rtol=1e-6)


def test_a_loss_scale_is_found_anywhere_and_there_must_be_one():
    tx = gx.with_metrics(gx.chain(gx.dynamic_loss_scale(gx.accumulate(gx.sgd(0.1), 2), 32.0)))
    state = tx.init(ZERO)
    assert float(gx.loss_scale(state)) == 32
    assert float(gx.metrics(state)["loss_scale"]) == 32
    with pytest.raises(ValueError, match="0 parts"):
        gx.loss_scale(gx.sgd(0.1).init(ZERO))


# --- conditions


@pytest.mark.parametrize("steps", [run, scanned])
def test_a_condition_on_the_step(steps):
    """On the other steps the updates are unchanged, or zero, and the inner state does not change."""
    grads, even = entries(1.0, 2.0, 3.0, 4.0), lambda step: step % 2 == 0
    inner, inner_states = steps(gx.trace(0.5), entries(1.0, 3.0))
    for wrapper, others in ((gx.conditionally_transform, grads[1::2]), (gx.conditionally_mask, [ZERO, ZERO])):
        updates, states = steps(wrapper(gx.trace(0.5), even), grads)
        close(updates[::2], inner)
        close(updates[1::2], others)
        close(states[3].inner_state, inner_states[1])
        assert int(states[3].step) == 4


def test_a_condition_on_the_extra_arguments():
    def good(step, value, **others):
        return value < 1.0

    for wrapper, other in ((gx.conditionally_transform, 1.0), (gx.conditionally_mask, 0.0)):
        tx = wrapper(gx.scale(-3.0), good, forward_extra_args=True)
        for value, expected in ((0.5, -3.0), (2.0, other)):
            updates, _ = run(tx, [jnp.ones(2)], value=value)
            close(updates[0], jnp.full(2, expected))
        updates, _ = jax.jit(tx.update)(jnp.ones(2), tx.init(ZERO), value=2.0)
        close(updates, jnp.full(2, other))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: gx.apply_if_finite(gx.sgd(1.0), -1), ValueError),
        (lambda: gx.apply_if_finite(gx.sgd(1.0), policy="ignore"), ValueError),
        (lambda: gx.apply_if_finite("sgd"), TypeError),
        (lambda: gx.skip_spikes(gx.sgd(1.0), deviations=0.0), ValueError),
        (lambda: gx.skip_spikes(gx.sgd(1.0), warmup=0), ValueError),
        (lambda: gx.skip_spikes(gx.sgd(1.0), decay=1.0), ValueError),
        (lambda: gx.dynamic_loss_scale(gx.sgd(1.0), backoff_factor=1.0), ValueError),
        (lambda: gx.dynamic_loss_scale(gx.sgd(1.0), growth_interval=0), ValueError),
        (lambda: gx.conditionally_mask(gx.sgd(1.0), True), TypeError),
    ],
)
def test_bad_arguments(call, error):
    with pytest.raises(error):
        call()


# --- what a skipped step keeps, in compiled steps


class OddState(NamedTuple):
    count: jax.Array = rules.counter()
    same: jax.Array = rules.per_param()
    number: jax.Array = rules.per_param()
    gradient: jax.Array = rules.per_param()
    first: jax.Array = rules.per_param()
    second: jax.Array = rules.per_param()
    sized: jax.Array = rules.reduced()


class odd(rules.Elementwise, state=OddState):
    """Slots that stay, that become a number, the gradient, one value twice, and what the update is computed of."""

    def update_leaf(self, g, slots, p, shared):
        both = slots.first + g
        size = slots.sized + jnp.sum(g)
        u = both * 2 + slots.second + size
        ones = jnp.ones_like(g)
        return u, slots._replace(number=ones, gradient=g, first=both, second=both, sized=size)


class summing(odd, rules.Layerwise):
    """The same, with functions that are calls of their own in the rule's program."""


@pytest.mark.parametrize("tx", [odd(), summing(), gx.chain(summing(), odd(), gx.adam(0.1))], ids=str)
def test_every_kind_of_slot_rests_on_a_skipped_step(tx):
    """A skipped step leaves every slot unchanged; a step that is taken equals the step without the wrapper."""
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4)}
    grads = jax.tree.map(lambda p: p + 1, params)
    for wrap, bad in ((gx.apply_if_finite, NAN), (lambda tx: gx.skip_spikes(tx, warmup=1), 1e6)):
        outer = wrap(tx)
        update = jax.jit(outer.update)
        state, plain = outer.init(params), tx.init(params)
        for scale in (1.0, bad, 0.9, bad, 1.1):
            g = jax.tree.map(lambda x, s=scale: x * s, grads)
            updates, state = update(g, state, params)
            if scale == bad or np.isnan(scale):
                assert not any(np.any(x) for x in jax.tree.leaves(updates))
            else:
                expected, plain = jax.jit(tx.update)(g, plain, params)
                close(updates, expected, rtol=1e-6)
            close(state.inner_state, plain, rtol=1e-6)


def test_skipping_around_wrappers_groups_and_stored_states():
    labels = {"deep": "b", "w": "a"}
    for inner in (
        gx.partition({"a": gx.adam(0.1), "b": gx.accumulate(gx.sgd(0.1, momentum=0.9), 2)}, labels),
        gx.stored(gx.adam(0.1), {"mu": "bfloat16"}),
        gx.lookahead(gx.muon(0.1), 2, 0.5),
        gx.apply_if_finite(gx.chain(gx.clip_by_global_norm(1.0), gx.scale_by_galore(rank=1))),
        gx.prodigy(),
    ):
        tx, params = gx.apply_if_finite(inner), draw(0)
        update = jax.jit(tx.update)
        _, state = update(draw(1), tx.init(params), params)
        bad = jax.tree.map(lambda g: g.at[0].set(INF), draw(2))
        updates, after = update(bad, state, params)
        close(after.inner_state, state.inner_state, rtol=0)
        assert int(after.total_notfinite) == 1
        close(updates, jax.tree.map(jnp.zeros_like, updates), rtol=0)


def test_numbers_that_are_not_finite_skip_a_step():
    """The gradient is finite but the learning rate is not; the step is skipped without a check of the updates."""
    tx = gx.apply_if_finite(gx.adam(lambda count: jnp.where(count == 1, NAN, 0.1)))
    updates, states = scanned(tx, entries(1.0, 2.0, 3.0, 4.0))
    assert [bool(np.any(u)) for u in updates] == [True, False, False, False]  # the inner count does not change either
    assert finite(states[-1])


def test_a_compiled_step_that_may_be_skipped_does_not_branch():
    for tx in (gx.apply_if_finite(gx.adamw(0.1)), gx.dynamic_loss_scale(gx.adam(0.1)), gx.skip_spikes(gx.lamb(0.1))):
        text = jax.jit(tx.update).lower(draw(0), tx.init(draw(0)), draw(0)).as_text()
        assert "stablehlo.case" not in text
        assert "stablehlo.if" not in text


HUGE = {
    "a learning rate above 1": (lambda: gx.sgd(10.0), [1e38, 1.0], [1.0, 1.0]),
    "momentum": (lambda: gx.sgd(1.0, momentum=0.9), [3e38, 1.0], [1.0, 1.0]),
    "a decay": (lambda: gx.add_decayed_weights(1.0), [3e38, 1.0], [3e38, 1.0]),
    "parameters": (lambda: gx.adamw(1e-3), [1.0, 1.0], [NAN, 1.0]),
    "a function of the user's": (
        lambda: gx.chain(gx.sgd(0.1), gx.project(lambda x: x / 0 * 0)),
        [1.0, 2.0],
        [1.0, 1.0],
    ),
    "a schedule": (lambda: gx.sgd(lambda count: float("nan")), [1.0, 1.0], [1.0, 1.0]),
    "a factor": (lambda: gx.chain(gx.adam(1.0), gx.scale(1e30)), [1e30, 1.0], [1.0, 1.0]),
    "an array": (lambda: gx.adam(jnp.array(INF)), [1.0, 1.0], [1.0, 1.0]),
    "a decay above 1 of b2": (lambda: gx.adam(0.1, b1=0.9, b2=0.0), [1e38, 0.0], [1.0, 1.0]),
}


@pytest.mark.parametrize("steps", [run, scanned])
@pytest.mark.parametrize("case", HUGE.values(), ids=HUGE)
def test_updates_that_are_not_finite_for_any_reason_are_skipped(case, steps):
    make, grad, params = case
    grads = [jnp.float32(grad), jnp.float32(grad) * 0, jnp.float32(grad)]
    updates, states = steps(gx.apply_if_finite(make()), grads, jnp.float32(params))
    assert finite(updates)
    assert finite(jax.tree.map(lambda x: x * 1.0, states[-1].inner_state))


def test_an_infinite_bound_is_no_reason_to_skip():
    for link in (gx.clip_params(-1.0, jnp.array(INF)), gx.project(gx.projection_box, -1.0, jnp.array([2.0, INF]))):
        tx = gx.apply_if_finite(gx.chain(gx.clip(jnp.array(INF)), gx.sgd(0.1), link))
        close(jax.jit(tx.update)(jnp.ones(2), tx.init(ZERO), ZERO)[0], jnp.full(2, -0.1), rtol=1e-6)


def skip_around_momentum(tx):
    """A wrapper around momentum, whose updates are not bounded, so that they are checked."""
    return gx.apply_if_finite(gx.chain(tx, gx.trace(0.9)))


@pytest.mark.parametrize("wrap", [gx.apply_if_finite, gx.skip_spikes, gx.dynamic_loss_scale, skip_around_momentum])
def test_a_skipped_step_has_no_derivative(wrap):
    """Derivatives through a skipped step are not NaN, because the skipped step is computed from zeros."""

    def loss(rate, steps):
        tx = wrap(gx.adam(rate))
        state, total = tx.init(ZERO), 0.0
        for g in steps:
            updates, state = tx.update(g, state, ZERO)
            total += jnp.sum(updates)
        return total

    good, slope = jnp.array([1.0, -3.0]), jax.jit(jax.grad(loss))
    for bad in (NAN, INF):
        found = slope(0.1, [good, good * bad, good * 0.9])
        assert np.isfinite(found)
        if wrap is not gx.dynamic_loss_scale:  # whose scale is another after it
            close(found, slope(0.1, [good, good * 0.9]), rtol=1e-5)


def test_an_update_that_is_a_slot_is_selected_where_another_state_keeps_it():
    class KeptState(NamedTuple):
        count: jax.Array = rules.counter()
        m: jax.Array = rules.per_param(start=1.0)

    class kept(rules.Elementwise, state=KeptState):
        def update_leaf(self, g, slots, p, shared):
            m = slots.m * 0.5 + g
            return m, slots._replace(m=m)

    tx = gx.skip_spikes(gx.chain(kept(), gx.snapshot("u", jax.tree_util.Partial(jnp.asarray))))
    state = tx.init(ZERO)
    _, after = jax.jit(tx.update)(jnp.full(2, NAN), state, ZERO)
    close(after.inner_state, state.inner_state, rtol=0)


@pytest.mark.parametrize("steps", [run, scanned])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_norms_that_are_not_finite_count_toward_nothing(bad, steps):
    """Norms that are not finite count neither toward the averages nor toward the warm-up."""
    tx = gx.skip_spikes(gx.sgd(1.0))
    one = jnp.zeros(1)
    _, states = steps(tx, [jnp.array([x]) for x in (1.0, bad, bad, 3.0)], one)
    mean = (0.99 * 0.01 * 1.0 + 0.01 * 3.0) / (1 - 0.99**2)
    np.testing.assert_allclose(states[-1].norm_mean, mean, rtol=1e-6)
    assert (int(states[-1].measured), int(states[-1].skipped), int(states[-1].count)) == (2, 2, 4)
    norms = (1.0, *(bad,) * 60, 1.3, 0.7, 1.5, 1.2, 2.0)
    updates, states = steps(tx, [jnp.array([x]) for x in norms], one)
    assert int(states[-1].skipped) == 60
    np.testing.assert_allclose([u[0] for u in updates], [-x if np.isfinite(x) else 0.0 for x in norms], rtol=1e-6)


def test_a_scheduled_decay_of_the_norms_averages():
    """The mean of equal norms is this norm, whatever the decay rates were."""
    tx = gx.skip_spikes(gx.sgd(1.0), decay=gx.linear_schedule(0.5, 0.99, 30))
    _, states = scanned(tx, [jnp.array([2.0])] * 40, jnp.zeros(1))
    np.testing.assert_allclose([state.norm_mean for state in states], 2.0, rtol=1e-5)
    np.testing.assert_allclose([state.norm_variance for state in states], 0.0, atol=1e-9)


@pytest.mark.parametrize("wrapper", [gx.conditionally_transform, gx.conditionally_mask])
def test_a_condition_is_given_what_it_asks_for(wrapper):
    tx = wrapper(gx.scale(2.0), lambda step, loss: loss > 1, forward_extra_args=True)
    state = tx.init(jnp.ones(()))
    assert tx.update(jnp.ones(()), state, loss=2.0)[0] == 2.0
    assert tx.update(jnp.ones(()), state, loss=0.0)[0] == (1.0 if wrapper is gx.conditionally_transform else 0.0)
    with pytest.raises(TypeError, match="unknown extra argument 'los'"):
        tx.update(jnp.ones(()), state, loss=2.0, los=2.0)
    with pytest.raises(TypeError, match="unknown extra argument 'loss'"):
        wrapper(gx.scale(2.0), lambda step: step > 0).update(jnp.ones(()), state, loss=2.0)
