"""Schedules at their borders: exact for large steps, and defined past the end."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx as gx
from gradtx.compat.torch import lr_scheduler
from tests.cases import SCHEDULES, finite

BIG = 2**24


@pytest.mark.heavy
@pytest.mark.parametrize("x64", [False, True])
def test_neighbouring_large_steps_differ(x64):
    with jax.enable_x64(x64):
        counts = jnp.asarray([BIG, BIG + 1], jnp.int32)
        joined = gx.join_schedules([gx.constant_schedule(1.0), gx.constant_schedule(2.0)], [BIG + 1])
        piecewise = gx.piecewise_constant_schedule(1.0, {BIG + 1: 0.5})
        linear = gx.linear_schedule(1.0, 0.0, 2 * BIG)
        stairs = gx.step_schedule(1.0, BIG + 1, 0.5)
        milestones = gx.multistep_schedule(1.0, [10, BIG + 1], 0.5)
        warmup = gx.warmup_constant_schedule(0.0, 1.0, BIG + 1)
        stable = gx.wsd_schedule(0.0, 1.0, 100, BIG - 100, 4)
        fast = gx.exponential_schedule(1.0, 1e-6)
        slow = gx.exponential_decay(1.0, 1000000, 0.5)
        cyclic = gx.cyclic_schedule(0.0, 1.0, 10, 7)
        restarts = gx.cosine_restarts_schedule(1.0, 7)
        several = (stairs, milestones, warmup, stable, fast, slow, cyclic, restarts)
        for schedule in (joined, piecewise, linear, *several):
            for values in (schedule(counts), jax.jit(schedule)(counts)):
                assert values[0] != values[1], schedule


@pytest.mark.parametrize("x64", [False, True])
def test_boundaries_that_are_traced_are_exact_up_to_float32(x64):
    """Through jit the boundary is a float32 number, the count stays an integer: the difference is exact."""
    with jax.enable_x64(x64):
        schedule = gx.join_schedules([gx.constant_schedule(1.0), gx.linear_schedule(0.0, 8.0, 8)], [BIG])
        counts = jnp.asarray([BIG - 1, BIG, BIG + 1, BIG + 2], jnp.int32)
        np.testing.assert_array_equal(jax.jit(lambda s, c: s(c))(schedule, counts), [1.0, 0.0, 1.0, 2.0])


@pytest.mark.one_in(4)
@pytest.mark.parametrize("case", SCHEDULES, ids=str)
def test_every_int32_step_has_a_finite_value_that_stays(case):
    schedule = case.make()
    if "halving" in case.expression:
        return  # the function is the user's
    with jax.enable_x64(False):
        last = np.iinfo(np.int32).max
        counts = jnp.asarray([0, 30, BIG + 1, last - 1, last], jnp.int32)
        values = np.asarray(schedule(counts))
        traced, slopes = jax.jit(lambda s: (s(counts), jax.grad(lambda s: s(counts).sum())(s)))(schedule)
        np.testing.assert_allclose(traced, values, rtol=2e-6, atol=1e-7)
        assert values.dtype == np.float32
        assert finite(slopes)
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    endless = ("inverse_", "cyclic_", "cosine_restarts_", "cosine_warmup_restarts_")
    if not case.expression.startswith(endless):
        assert values[-1] == values[-2] == values[-3]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("case", SCHEDULES, ids=str)
def test_counts_of_any_kind(case):
    schedule = case.make()
    expected = float(schedule(3))
    for count in (3.0, np.int32(3), np.float64(3.0), jnp.asarray(3), jnp.asarray(3, jnp.int16), jnp.asarray(3.0)):
        np.testing.assert_allclose(float(schedule(count)), expected, rtol=1e-12)
    assert schedule(jnp.zeros((2, 3), int)).shape == (2, 3)


def test_lengths_may_be_arrays():
    lengths = jnp.asarray([2, 4, 8])
    values = jax.vmap(lambda n: gx.linear_schedule(1.0, 0.0, n)(1))(lengths)
    np.testing.assert_allclose(values, [0.5, 0.75, 0.875])
    values = jax.vmap(lambda n: gx.cosine_decay_schedule(1.0, n)(n))(lengths)
    np.testing.assert_allclose(values, np.zeros(3), atol=1e-30)


def test_derivatives_by_lengths():
    slope = jax.grad(lambda n: gx.linear_schedule(1.0, 0.0, n)(1))(4.0)
    np.testing.assert_allclose(slope, 1 / 16)


def test_stairs_do_not_round_up():
    """floor(x / y) is too large by one if x / y rounds up to an integer."""
    with jax.enable_x64(False):
        schedule = gx.exponential_decay(1.0, 41, 0.5, staircase=True)
        counts = np.arange(41 * 100)
        np.testing.assert_allclose(schedule(counts), 0.5 ** (counts // 41), rtol=1e-6)


def test_warmup_of_length_zero_and_peak_zero():
    schedule = gx.warmup_cosine_decay_schedule(0.5, 1.0, 0, 10)
    assert float(schedule(0)) == 1.0
    rising = gx.warmup_cosine_decay_schedule(0.0, 0.0, 2, 10, end_value=0.1)
    np.testing.assert_allclose(float(rising(10)), 0.1)


def test_a_warmup_of_no_steps_has_its_peak_at_step_0():
    """In this case optax's warmup_constant_schedule stays at `init_value` forever."""
    assert float(optax.warmup_constant_schedule(0.0, 1.0, 0)(10)) == 0.0
    for schedule in (
        gx.warmup_constant_schedule(0.0, 1.0, 0),
        gx.warmup_exponential_decay_schedule(0.0, 1.0, 0, 10, 0.5),
        gx.wsd_schedule(0.0, 1.0, 0, 5, 10),
        gx.cosine_warmup_restarts_schedule(0.0, 5, 2, 1.0),
    ):
        assert float(schedule(0)) == 1.0


@pytest.mark.parametrize("traced", [False, True])
def test_stairs_at_the_last_step(traced):
    """Inside jit, the start and the length of a stair are float32, but every stair starts at the right step."""
    last = np.iinfo(np.int32).max
    with jax.enable_x64(False):
        for begin, steps in ((0, 3), (5, 1000), (2**20 + 1, 2**24 - 1)):
            schedule = gx.exponential_decay(1.0, steps, 2.0**-20, transition_begin=begin, staircase=True)
            edge = begin + (last - begin) // steps * steps
            counts = np.asarray([begin - 1, begin, begin + steps - 1, begin + steps, edge - 1, edge], np.int32)
            run = jax.jit(lambda s, c: s(c)) if traced else lambda s, c: s(c)
            passed = np.maximum(counts - begin, 0) // steps
            np.testing.assert_allclose(run(schedule, np.maximum(counts, 0)), 2.0 ** (-20.0 * passed), rtol=1e-5)


@pytest.mark.parametrize("traced", [False, True])
def test_warmup_and_stable_phase_add_up_exactly(traced):
    """Two float32 lengths whose sum float32 cannot hold."""
    with jax.enable_x64(False):
        schedule = gx.wsd_schedule(0.0, 8.0, 5, 2 * BIG, 8)
        counts = np.asarray([2 * BIG + 5 + i for i in range(9)], np.int32)
        run = jax.jit(lambda s, c: s(c)) if traced else lambda s, c: s(c)
        np.testing.assert_array_equal(run(schedule, counts), 8.0 - np.arange(9))


@pytest.mark.heavy
def test_the_transformer_schedule():
    width, warmup = 512, 40
    schedule = gx.inverse_sqrt_schedule(0.0, (width * warmup) ** -0.5, warmup)
    steps = np.arange(1.0, 500.0)
    paper = width**-0.5 * np.minimum(steps**-0.5, steps * warmup**-1.5)
    np.testing.assert_allclose(schedule(np.arange(1, 500)), paper, rtol=1e-12)
    assert float(schedule(0)) == 0.0
    assert np.argmax(schedule(np.arange(500))) == warmup


@pytest.mark.parametrize("decay", ["linear", "cosine", "1-sqrt"])
def test_warmup_stable_decay(decay):
    t = np.arange(40)
    s = np.clip((t - 12) / 16, 0, 1)
    shape = {"linear": 1 - s, "cosine": (1 + np.cos(np.pi * s)) / 2, "1-sqrt": 1 - np.sqrt(s)}[decay]
    expected = np.where(t < 5, 0.1 + 0.9 * t / 5, 0.05 + 0.95 * shape)
    values = gx.wsd_schedule(0.1, 1.0, 5, 7, 16, 0.05, decay)(t)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert (values[5:13] == 1.0).all()
    assert (values[28:] == 0.05).all()


def test_exponential_and_optimal_rates():
    t = np.arange(100)
    np.testing.assert_allclose(gx.exponential_schedule(0.5, 0.03)(t), 0.5 * np.exp(-0.03 * t), rtol=1e-12)
    np.testing.assert_allclose(gx.optimal_constant_rate(3.0, 2.0, 50)(t), 3 / (2 * np.sqrt(50)), rtol=1e-15)


@pytest.mark.heavy
@pytest.mark.parametrize("steps", range(4, 60, 5))
def test_onecycle_at_every_length(steps):
    """The ends of the phases are rounded down as optax rounds them."""
    t = np.arange(70.0)
    for name in ("linear_onecycle_schedule", "cosine_onecycle_schedule"):
        expected = np.asarray([getattr(optax, name)(steps, 0.3)(x) for x in t])
        np.testing.assert_allclose(getattr(gx, name)(steps, 0.3)(t), expected, rtol=1e-12, atol=1e-15)


def test_multiplicative_is_the_product_of_the_factors():
    def factor(step):
        return 0.9 + 0.2 / (1 + step)

    schedule = gx.multiplicative_schedule(2.0, factor)
    expected = 2.0 * np.cumprod([1.0] + [factor(step) for step in range(1, 200)])
    counts = np.arange(200)
    for values in (schedule(counts), jax.jit(schedule)(counts), jax.vmap(schedule)(counts), schedule(counts + 0.5)):
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert float(schedule(0)) == 2.0
    slope = jax.grad(lambda x: gx.multiplicative_schedule(x, factor)(50))(2.0)
    np.testing.assert_allclose(slope, expected[50] / 2, rtol=1e-12)


def test_factors_see_one_integer_step_and_may_be_constant():
    def factor(step):
        assert step.shape == ()
        assert step.dtype == int
        return 0.5

    counts = np.arange(6, dtype=np.int32).reshape(2, 3)
    for schedule in (gx.lambda_schedule(2.0, factor), gx.multiplicative_schedule(2.0, factor)):
        assert schedule(counts).shape == (2, 3)
        assert float(schedule(1)) == 1.0
    # An int32 divided by a number is float32, with x64 on too; the step that a factor sees is wider.
    tenths = gx.lambda_schedule(1.0, lambda step: step / 10)
    assert float(tenths(jnp.asarray(1, jnp.int32))) == 0.1


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (gx.linear_schedule(1.0, 0.1, 10), "transition_begin"),
        (gx.exponential_decay(1.0, 10, 0.5, staircase=True), "transition_steps"),
        (gx.warmup_constant_schedule(0.1, 1.0, 10), "warmup_steps"),
        (gx.warmup_cosine_decay_schedule(0.1, 1.0, 10, 30), "warmup_steps"),
        (gx.warmup_exponential_decay_schedule(0.1, 1.0, 10, 30, 0.5), "warmup_steps"),
        (gx.inverse_sqrt_schedule(0.1, 1.0, 10), "warmup_steps"),
        (gx.wsd_schedule(0.1, 1.0, 3, 5, 7), "stable_steps"),
        (gx.wsd_schedule(0.1, 1.0, 3, 5, 7, decay="1-sqrt"), "decay_steps"),
        (gx.linear_onecycle_schedule(20, 1.0), "transition_steps"),
        (gx.cosine_onecycle_schedule(20, 1.0), "transition_steps"),
        (gx.cyclic_schedule(0.1, 1.0, 5), "steps_up"),
        (gx.cosine_restarts_schedule(1.0, 5, 2), "period"),
        (gx.cosine_warmup_restarts_schedule(0.1, 25, 2, 1.0, 5), "warmup"),
        (gx.step_schedule(1.0, 5), "step_size"),
        (gx.optimal_constant_rate(1.0, 2.0, 5), "steps"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_vmap_over_lengths_equals_a_loop(schedule, name, dtype):
    lengths, counts = [6, 9, 12], np.arange(50)
    with jax.enable_x64(False):
        curves = jax.vmap(lambda n: schedule.replace(**{name: n})(counts))(jnp.asarray(lengths, dtype))
        loop = [schedule.replace(**{name: n})(counts) for n in lengths]
        np.testing.assert_allclose(curves, loop, rtol=1e-5, atol=1e-7)


@pytest.mark.heavy
def test_vmap_over_boundaries():
    counts = np.arange(12)
    for build in (
        lambda n: gx.multistep_schedule(1.0, [2, n], 0.5),
        lambda n: gx.join_schedules([gx.linear_schedule(1.0, 0.0, 4), gx.step_schedule(0.5, 2)], [n]),
        lambda n: gx.sgdr_schedule(2 * [{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 1, "decay_steps": n}]),
    ):
        curves = jax.vmap(lambda n: build(n)(counts))(jnp.asarray([3, 5]))  # noqa: B023
        np.testing.assert_allclose(curves, [build(3)(counts), build(5)(counts)], rtol=1e-12, atol=1e-15)


def test_chained_schedules_multiply():
    pieces = [gx.linear_schedule(0.0, 1.0, 5), gx.step_schedule(0.3, 4), lambda count: 2.0]
    counts = np.arange(20)
    expected = np.asarray(pieces[0](counts)) * np.asarray(pieces[1](counts)) * 2
    np.testing.assert_allclose(gx.multiply_schedules(pieces)(counts), expected, rtol=1e-12)


def test_sgdr_is_joined_cycles():
    one = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 6}
    schedule = gx.sgdr_schedule(kwargs for kwargs in (one, {**one, "decay_steps": 9}, one))
    assert schedule.boundaries == (6, 15)
    assert eval(repr(schedule), vars(gx)) == schedule


# --- what users give for steps and for functions

NUMBERS_OF_STEPS = [
    ("cosine_decay_schedule(1.0, {})", 1.0),
    ("linear_schedule(1.0, 0.0, {})", 1.0),
    ("polynomial_schedule(1.0, 0.0, 2.0, {}, {})", 1.0),
    ("warmup_cosine_decay_schedule(0.0, 1.0, 5, {})", 0.6),
    ("warmup_constant_schedule(1.0, 0.5, {})", 1.0),
    ("wsd_schedule(1.0, 0.5, {}, {}, {})", 1.0),
    ("exponential_decay(1.0, {}, 0.5)", 1.0),
    ("exponential_decay(1.0, {}, 0.5, staircase=True)", 1.0),
    ("step_schedule(1.0, {})", 1.0),
    ("multistep_schedule(1.0, [{}])", 1.0),
    ("piecewise_constant_schedule(1.0, {{}: 0.1})", 1.0),
    ("piecewise_interpolate_schedule('cosine', 1.0, {{}: 0.1})", 1.0),
    ("join_schedules([constant_schedule(1.0), constant_schedule(2.0)], [{}])", 1.0),
    ("cyclic_schedule(1.0, 2.0, {})", 1.0),
    ("cosine_restarts_schedule(1.0, {}, 2)", 1.0),
    ("cosine_warmup_restarts_schedule(0.0, {}, 2, 1.0)", 1.0),
    ("linear_onecycle_schedule({}, 25.0)", 1.0),
    ("cosine_onecycle_schedule({}, 25.0)", 1.0),
    ("inverse_sqrt_schedule(1.0, 2.0, {})", 1.0),
    ("optimal_constant_rate(1.0, 1.0, {})", None),
]


@pytest.mark.one_in(12)
@pytest.mark.parametrize("steps", [10**10, 2**31 - 1, np.uint64(2**63)])
@pytest.mark.parametrize(("expression", "early"), NUMBERS_OF_STEPS)
def test_numbers_of_steps_may_be_large(expression, early, steps):
    """The first values of a schedule that is longer than any run, in float32 and float64."""
    for x64 in (False, True):
        with jax.enable_x64(x64):
            schedule = eval(expression.replace("{}", repr(steps)), {**vars(gx), "np": np})
            counts = jnp.asarray([3, 2**31 - 1], jnp.int32)
            for value in (schedule(counts), jax.jit(lambda s, counts: s(counts))(schedule, counts)):
                assert finite(value)
                if early is not None:
                    np.testing.assert_allclose(value[0], early, rtol=1e-5)
            assert eval(repr(schedule), {**vars(gx), "np": np}) == schedule


@pytest.mark.parametrize("rate", [10**10, -(2**40)])
def test_a_value_may_be_a_large_integer(rate):
    for schedule in (gx.constant_schedule(rate), gx.linear_schedule(rate, 2 * rate, 10), gx.step_schedule(rate, 5)):
        np.testing.assert_allclose(jax.jit(schedule)(0), float(rate))
    updates, _ = gx.scale(rate).update(jnp.ones(1), gx.scale(rate).init(jnp.ones(1)))
    np.testing.assert_allclose(updates, float(rate))


def test_a_number_beyond_every_float_raises():
    for make in (lambda: gx.linear_schedule(1.0, 0.0, 10**400), lambda: gx.scale(-(10**400))):
        with pytest.raises(ValueError, match="must be in"):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda n: gx.apply_every(n),
        lambda n: gx.skip_spikes(gx.sgd(0.1), warmup=n),
        lambda n: gx.accumulate(gx.sgd(0.1), n),
        lambda n: gx.reduce_on_plateau(patience=n),
        lambda n: gx.swa(gx.sgd(0.1), n),
        lambda n: gx.lookahead(gx.sgd(0.1), n, 0.5),
    ],
)
def test_a_count_that_int32_does_not_hold_raises(make):
    make(2**31 - 1)
    for n in (2**31, 10**10):
        with pytest.raises(ValueError, match="must be an integer of at most 2147483647"):
            make(n)


def test_a_seed_may_be_longer():
    g = jnp.ones(2)
    tx = gx.add_noise(0.1, 0.5, 2**40)
    assert bool(jnp.isfinite(tx.update(g, tx.init(g))[0]).all())


STEPS = [
    [3, 6],
    (3, 6),
    [np.int64(3), np.int32(6)],
    [np.uint8(3), 6],
    np.array([3, 6]),
    np.array([3, 6], np.int16),
    np.array([3.0, 6.0]),
    [np.array(3), np.array(6)],
]


@pytest.mark.parametrize("steps", STEPS, ids=repr)
def test_steps_may_be_numpys(steps):
    """Lists, dicts and pairs of steps may hold NumPy numbers, in all schedules that accept them."""
    counts = jnp.arange(10)
    pieces = [gx.constant_schedule(x) for x in (1.0, 0.5, 0.25)]
    expected = jnp.where(counts < 3, 1.0, jnp.where(counts < 6, 0.5, 0.25))
    np.testing.assert_allclose(gx.multistep_schedule(1.0, steps, 0.5)(counts), expected)
    np.testing.assert_allclose(gx.join_schedules(pieces, steps)(counts), expected)
    np.testing.assert_allclose(lr_scheduler.MultiStepLR(1.0, steps, 0.5)(counts), expected)
    rates = [lr_scheduler.ConstantLR(x, factor=1.0) for x in (1.0, 1.0, 1.0)]
    assert lr_scheduler.SequentialLR(rates, steps)(counts).shape == (10,)
    keys = [x.item() if isinstance(x, np.ndarray) else x for x in steps]
    for pairs in (dict.fromkeys(keys, 0.5), [(x, 0.5) for x in steps], np.array([[3, 0.5], [6, 0.5]])):
        np.testing.assert_allclose(gx.piecewise_constant_schedule(1.0, pairs)(counts), expected)
        found = gx.piecewise_interpolate_schedule("linear", 1.0, pairs)(jnp.asarray([0, 3, 6, 9]))
        np.testing.assert_allclose(found, [1.0, 0.5, 0.25, 0.25])
    one = gx.join_schedules(pieces, steps)
    assert eval(repr(one), vars(gx)) == one == gx.join_schedules(pieces, [3, 6])


def test_steps_may_be_an_array_of_jax():
    pieces = [gx.constant_schedule(x) for x in (1.0, 0.5, 0.25)]
    found = gx.join_schedules(pieces, jnp.array([3, 6]))(jnp.asarray([0, 3, 6]))
    np.testing.assert_allclose(found, [1.0, 0.5, 0.25])
    np.testing.assert_allclose(gx.multistep_schedule(1.0, jnp.array([3, 6]), 0.5)(6), 0.25)


def by_if(count):
    return 0.1 if count < 10 else 0.01


def by_math(count):
    return math.cos(count)


def by_numpy(count):
    return np.cos(count)


def by_range(count):
    return sum(0.5 for _ in range(count))


@pytest.mark.parametrize("fn", [by_if, by_math, by_numpy, by_range])
@pytest.mark.parametrize(
    "use",
    [
        lambda fn, g: gx.sgd(fn).update(g, gx.sgd(fn).init(g)),
        lambda fn, g: jax.jit(gx.sgd(fn).update)(g, gx.sgd(fn).init(g)),
        lambda fn, g: gx.adam(0.1, b1=fn).update(g, gx.adam(0.1, b1=fn).init(g)),
        lambda fn, g: gx.sgd(gx.join_schedules([fn, fn], [5])).update(g, gx.sgd(0.1).init(g)),
        lambda fn, g: gx.sgd(gx.lambda_schedule(1.0, fn)).update(g, gx.sgd(0.1).init(g)),
        lambda fn, g: gx.sgd(gx.multiplicative_schedule(1.0, fn)).update(g, gx.sgd(0.1).init(g)),
        lambda fn, g: gx.adopt(0.1, clip_value_fn=fn).update(g, gx.adopt(0.1).init(g)),
        lambda fn, g: jax.jit(gx.accumulate(gx.sgd(1.0), fn).update)(g, gx.accumulate(gx.sgd(1.0), fn).init(g)),
    ],
)
def test_a_function_that_no_schedule_can_be_says_what_one_may_do(fn, use):
    with pytest.raises(TypeError, match=rf"{fn.__name__}: a function of the step count cannot use .*jnp\.where"):
        use(fn, jnp.ones(2))


def test_such_a_function_is_fine_for_a_python_number():
    assert gx.function_schedule(by_if)(30) == 0.01


def test_a_schedule_returns_a_number():
    g = jnp.ones(2)
    for bad in (lambda count: None, lambda count: "0.1", lambda count: [0.1]):
        with pytest.raises(TypeError, match="a schedule must return a number, got"):
            gx.sgd(bad).update(g, gx.sgd(0.1).init(g))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("case", SCHEDULES, ids=str)
def test_python_counts_that_int32_does_not_hold(case):
    schedule = case.make()
    with jax.enable_x64(False):
        assert bool(jnp.isfinite(schedule(2**31 + 5)))
