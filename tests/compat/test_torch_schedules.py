"""`gradtx.compat.torch.lr_scheduler` against curves recorded from PyTorch (`tests/record_torch_schedules.py`)."""

import inspect
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.compat import torch
from gradtx.compat.torch import lr_scheduler
from tests.cases import finite
from tests.record_torch_schedules import CURVES, FILE, LR, MOMENTA, NAMES, REFUSED, STEPS

RECORDED = np.load(FILE)
RATES = dict(zip(json.loads(str(RECORDED["names"])), RECORDED["rates"], strict=True))
T = np.arange(STEPS)

# The slow tests use a scheduler of each kind, and a nested combination.
SOME = [
    *[next(e for e in CURVES if e.startswith(name + "(") and "lr, " in e) for name in NAMES],
    next(e for e in CURVES if e.startswith("SequentialLR([ChainedScheduler")),
]
GROWS = ("1.01", "t // 30")


def make(expression):
    return eval(expression, {"lr": LR, **vars(lr_scheduler)})


def recorded(name):
    """Returns a recorded curve; if PyTorch raises, the curve keeps its final value, or 0 if this is negative."""
    rates = RATES[name]
    known = np.flatnonzero(~np.isnan(rates))
    return np.maximum(np.where(np.isnan(rates), rates[known[-1]], rates), 0)


def agree(actual, expected):
    # PyTorch's own rounding near a zero is absolute: 1 + cos.
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-16 * LR)


def test_there_are_several_of_each():
    for name in NAMES:
        assert sum(e.startswith(name + "(") for e in CURVES) >= 3, name
    assert set(RATES) == {*CURVES, *(f"{e} momentum" for e in MOMENTA)}
    assert set(NAMES) | {"CycledMomentum"} == set(lr_scheduler.__all__)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("expression", CURVES)
def test_curve(expression):
    schedule = make(expression)
    assert isinstance(schedule, gx.rules.Schedule)
    values = schedule(T)
    assert values.dtype == np.float64
    agree(values, recorded(expression))


@pytest.mark.parametrize("expression", MOMENTA)
def test_momentum(expression):
    schedule = make(expression)
    agree(schedule.momentum(T), recorded(f"{expression} momentum"))
    with pytest.raises(ValueError, match="cycle_momentum"):
        schedule.replace(cycle_momentum=False).momentum  # noqa: B018


def test_negative_rates_are_the_ones_past_a_line():
    negative = [name for name, rates in RATES.items() if np.nanmin(rates) < 0]
    assert negative
    for name in negative:
        assert name.startswith("OneCycleLR")
        assert "'linear'" in name
        assert (RATES[name] < 0).sum() == 1


@pytest.mark.parametrize("expression", SOME)
def test_traced_with_derivatives(expression):
    """The hyperparameters and the steps may be traced; all derivatives by the hyperparameters are finite."""

    def total(schedule, steps):
        values = schedule(steps)
        return values.sum(), values

    schedule = make(expression)
    (_, values), slopes = jax.jit(jax.value_and_grad(total, has_aux=True))(schedule, T)
    agree(values, recorded(expression))
    assert finite(slopes)
    assert any(np.any(np.asarray(slope) != 0) for slope in jax.tree.leaves(slopes))


def test_a_chain_begins_again_when_traced():
    expression = next(e for e in CURVES if e.startswith("ChainedScheduler([CosineAnnealingLR"))
    agree(jax.jit(lambda schedule, steps: schedule(steps))(make(expression), T), recorded(expression))


@pytest.mark.parametrize("expression", SOME)
def test_single_steps(expression):
    schedule, expected = make(expression), recorded(expression)
    for t in (0, 57, STEPS - 1):
        value = schedule(t)
        assert value.shape == ()
        agree(value, expected[t])


@pytest.mark.parametrize("expression", [e for e in SOME if "Multiplicative" not in e])
def test_large_steps(expression):
    """In float32, values have the default dtype and are finite and not negative, up to the largest int32 step."""
    with jax.enable_x64(False):
        schedule = make(expression)
        values = schedule(jnp.asarray([0, 2**24, 2**24 + 1, 2**31 - 1], jnp.int32))
        assert values.dtype == np.float32
        np.testing.assert_allclose(values[0], recorded(expression)[0], rtol=1e-6)
        assert (np.isfinite(values) | any(x in expression for x in GROWS)).all()
        assert (values >= 0).all()


@pytest.mark.heavy
def test_neighbouring_large_steps():
    with jax.enable_x64(False):
        big = 2**24
        t = jnp.asarray([big, big + 1, big + 2], jnp.int32)
        np.testing.assert_allclose(lr_scheduler.StepLR(1.0, big + 1, 0.5)(t), [1, 0.5, 0.5])
        np.testing.assert_allclose(lr_scheduler.MultiStepLR(1.0, [big + 2], 0.5)(t), [1, 1, 0.5])
        np.testing.assert_allclose(lr_scheduler.ConstantLR(1.0, 0.5, big + 1)(t), [0.5, 1, 1])
        expected = [(1 + np.cos(np.pi * (step % 6) / 3)) / 2 for step in (big, big + 1, big + 2)]
        np.testing.assert_allclose(lr_scheduler.CosineAnnealingLR(1.0, 3)(t), expected, rtol=1e-6)
        cyclic = lr_scheduler.CyclicLR(base_lr=0.0, max_lr=1.0, step_size_up=4)
        np.testing.assert_allclose(cyclic(t), [0, 0.25, 0.5])
        restarts = lr_scheduler.CosineAnnealingWarmRestarts(1.0, 2)
        np.testing.assert_allclose(restarts(t), [1, 0.5, 1], rtol=1e-6)
        linear = lr_scheduler.LinearLR(1.0, 0.25, 1.0, 3)
        after = lr_scheduler.SequentialLR([lr_scheduler.StepLR(1.0, 9), linear], [big])
        np.testing.assert_allclose(after(t), [0.25, 0.5, 0.75])
        np.testing.assert_allclose(jax.jit(lambda s, t: s(t))(after, t), [0.25, 0.5, 0.75])


@pytest.mark.parametrize("expression", CURVES + [f"{e}.momentum" for e in MOMENTA])
def test_values(expression):
    schedule = make(expression)
    leaves, treedef = jax.tree.flatten(schedule)
    assert jax.tree.unflatten(treedef, leaves) == schedule
    assert schedule.replace() == schedule
    if "lambda" not in expression:
        assert eval(repr(schedule), vars(lr_scheduler)) == schedule
        assert pickle.loads(pickle.dumps(schedule)) == schedule


LENGTHS = [
    lambda n: lr_scheduler.StepLR(LR, n),
    lambda n: lr_scheduler.MultiStepLR(LR, [3, n]),
    lambda n: lr_scheduler.LinearLR(LR, total_iters=n),
    lambda n: lr_scheduler.CosineAnnealingLR(LR, n),
    lambda n: lr_scheduler.CosineAnnealingWarmRestarts(LR, n, 2),
    lambda n: lr_scheduler.CyclicLR(LR, 0.0, 1.0, n, 3),
    lambda n: lr_scheduler.OneCycleLR(LR, 1.0, n),
    lambda n: lr_scheduler.SequentialLR([lr_scheduler.StepLR(LR, 5), lr_scheduler.LinearLR(LR)], [n]),
]


@pytest.mark.parametrize("make", LENGTHS, ids=[type(make(2)).__name__ for make in LENGTHS])
def test_lengths_may_be_arrays(make):
    lengths, steps = np.asarray([4, 7, 12]), T[:30]
    expected = np.stack([make(int(n))(steps) for n in lengths])
    values = jax.jit(jax.vmap(lambda n: make(n)(steps)))(jnp.asarray(lengths))
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-17)


@pytest.mark.heavy
def test_derivatives_by_numbers():
    def value(lr, gamma, steps):
        pieces = [lr_scheduler.ExponentialLR(lr, gamma), lr_scheduler.LinearLR(lr, 0.5, 1.0, steps)]
        return lr_scheduler.ChainedScheduler(pieces)(4)

    slopes = jax.grad(value, argnums=(0, 1, 2))(0.1, 0.9, 8.0)
    np.testing.assert_allclose(slopes[0], 0.9**4 * 0.75)
    np.testing.assert_allclose(slopes[1], 0.1 * 4 * 0.9**3 * 0.75)
    np.testing.assert_allclose(slopes[2], 0.1 * 0.9**4 * -0.5 * 4 / 64)
    slope = jax.grad(lambda n: lr_scheduler.CosineAnnealingLR(1.0, n)(13))(5.0)
    np.testing.assert_allclose(slope, np.sin(np.pi * 13 / 5) / 2 * np.pi * 13 / 25)


def test_in_an_optimizer():
    cycle = lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=10)
    tx = torch.SGD(lr=cycle, momentum=cycle.momentum)
    state = tx.init(jnp.ones(2))
    current = gx.hyperparameters(tx, state)
    np.testing.assert_allclose(float(current["scale_by_learning_rate.learning_rate"]), 0.004)
    np.testing.assert_allclose(float(current["trace.decay"]), 0.95)


def test_the_rate_may_stand_for_the_one_that_cycles():
    a, b = lr_scheduler.CyclicLR(0.1, max_lr=0.2, step_size_up=3), lr_scheduler.CyclicLR(0.7, 0.1, 0.2, 3)
    np.testing.assert_array_equal(a(T), b(T))
    a, b = lr_scheduler.OneCycleLR(0.1, total_steps=9), lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=9)
    np.testing.assert_array_equal(a(T), b(T))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("within", "alone"),
    [
        ("ChainedScheduler([ExponentialLR(lr, 0.9), StepLR(lr, 5)])", "StepLR(lr, 1, 0.9)"),
        ("SequentialLR([ExponentialLR(lr, 0.9), ExponentialLR(lr, 0.8)], [4])", "ExponentialLR(lr, 0.9)"),
    ],
)
def test_compositions_where_pytorch_raises(within, alone):
    """PyTorch cannot start a combination at a milestone. Here it counts its own steps, like every scheduler."""
    expected = make(alone)(T[:20]), make(within)(T[:20])
    values = make(f"SequentialLR([{alone}, {within}], [20])")(T[:40])
    np.testing.assert_allclose(values, np.concatenate(expected), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_those_of_pytorch(name):
    """In PyTorch's order and with its defaults, but for the rate in place of the optimizer.

    Where PyTorch overwrites the optimizer's rate, it need not be given, and may stand for what overwrites it.
    """
    ours = list(inspect.signature(getattr(lr_scheduler, name)).parameters.values())
    there = json.loads(str(RECORDED["signatures"]))[name]
    if name not in ("ChainedScheduler", "SequentialLR"):
        assert ours.pop(0).name == "lr"
    assert [p.name for p in ours] == [argument for argument, _, _ in there]
    for p, (_, kind, default) in zip(ours, there, strict=True):
        assert p.kind.name == kind
        if p.name not in ("base_lr", "max_lr"):
            assert ("required" if p.default is p.empty else p.default) == default, p.name


@pytest.mark.parametrize(("expression", "argument"), REFUSED)
def test_what_pytorch_refuses(expression, argument):
    with pytest.raises((ValueError, TypeError), match=rf"^{expression.split('(')[0]}: {argument}\b"):
        make(expression)


@pytest.mark.parametrize(
    ("expression", "argument"),
    [
        ("StepLR(-0.1, 3)", "lr"),
        ("StepLR([0.1], 3)", "lr"),
        ("StepLR(lr, 0)", "step_size"),
        ("StepLR(lr, -3)", "step_size"),
        ("StepLR(lr, 2.5)", "step_size"),
        ("StepLR(lr, True)", "step_size"),
        ("StepLR(lr, 3, -0.5)", "gamma"),
        ("StepLR(lr, 3, last_epoch=5)", "last_epoch"),
        ("MultiStepLR(lr, 30)", "milestones"),
        ("MultiStepLR(lr, [30, -3])", r"milestones\[1\]"),
        ("MultiStepLR(lr, [2.5])", r"milestones\[0\]"),
        ("MultiStepLR(lr, [30], -1)", "gamma"),
        ("ConstantLR(lr, total_iters=-1)", "total_iters"),
        ("ConstantLR(lr, total_iters=0)", "total_iters"),
        ("LinearLR(lr, total_iters=0)", "total_iters"),
        ("ExponentialLR(lr, float('inf'))", "gamma"),
        ("PolynomialLR(lr, total_iters=0)", "total_iters"),
        ("PolynomialLR(lr, power=-1.0)", "power"),
        ("CosineAnnealingLR(lr, 0)", "T_max"),
        ("CosineAnnealingLR(lr, -5)", "T_max"),
        ("CosineAnnealingLR(lr, 5, -0.1)", "eta_min"),
        ("LambdaLR(lr, 0.9)", "lr_lambda"),
        ("LambdaLR(lr, [lambda t: 0.9])", "lr_lambda"),
        ("CyclicLR(max_lr=0.1)", "base_lr"),
        ("CyclicLR(lr, 0.1)", "max_lr"),
        ("CyclicLR(lr, 0.1, 0.2, step_size_up=0)", "step_size_up"),
        ("CyclicLR(lr, 0.1, 0.2, step_size_down=-2)", "step_size_down"),
        ("CyclicLR(lr, 0.1, 0.2, scale_mode='steps')", "scale_mode"),
        ("CyclicLR(lr, 0.1, 0.2, scale_fn=0.5)", "scale_fn"),
        ("CyclicLR(lr, 0.1, 0.2, gamma=1.1)", "gamma"),
        ("OneCycleLR(total_steps=9)", "max_lr"),
        ("OneCycleLR(lr, 0.1, 9, div_factor=0)", "div_factor"),
        ("ChainedScheduler(StepLR(lr, 3))", "schedulers"),
        ("ChainedScheduler([StepLR(lr, 3), StepLR(0.2, 5)])", "schedulers must have the same base rate"),
        ("ChainedScheduler([StepLR(lr, 3), CosineAnnealingLR(lr, 5, 0.01)])", "CosineAnnealingLR must have eta_min=0"),
        ("ChainedScheduler([CosineAnnealingLR(lr, 3), CosineAnnealingLR(lr, 5)])", "CosineAnnealingLR"),
        ("SequentialLR([StepLR(lr, 3), StepLR(lr, 5)], 5)", "milestones"),
        ("SequentialLR([StepLR(lr, 3), StepLR(lr, 5)], [-5])", r"milestones\[0\]"),
        ("SequentialLR([StepLR(lr, 3)] * 4, [1, 5, 3])", "milestones must increase"),
        ("SequentialLR([StepLR(lr, 3), MultiplicativeLR(lr, abs)], [0])", "milestones must be at least 1"),
        ("SequentialLR([SequentialLR([StepLR(lr, 3), StepLR(lr, 3)], [0]), StepLR(lr, 3)], [5])", r"schedulers\[0\]"),
    ],
)
def test_what_pytorch_takes_by_mistake_or_cannot_be_followed(expression, argument):
    with pytest.raises((ValueError, TypeError), match=rf"^{expression.split('(')[0]}: {argument}"):
        make(expression)


def test_names_are_documented():
    for name in lr_scheduler.__all__:
        assert ">>> " in inspect.getdoc(getattr(lr_scheduler, name)), name
