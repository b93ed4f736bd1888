"""`gradtx.compat.torch` against trajectories recorded from PyTorch in float64 (`tests/record_torch.py`)."""

import inspect
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.compat import torch
from gradtx.compat.torch import adafactor, muon
from tests.cases import finite
from tests.record_torch import FILE, PROBLEMS, REFUSED, ROWS, SLOPE, STEPS

RECORDED = np.load(FILE)
IGNORED = {"foreach": True, "fused": True, "capturable": True, "differentiable": True}


def leaves(row, numbers):
    """Returns the parameters of a problem as a tree, from recorded rows of numbers, one row for each step."""
    shapes = PROBLEMS[row.problem]
    parts = np.split(numbers, np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1], axis=-1)
    return {
        name: part.reshape(numbers.shape[:-1] + shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }


def make(row, **more):
    arguments = {**row.arguments, **more}
    if row.decay != 1:
        arguments["lr"] = gx.exponential_decay(arguments["lr"], 1, row.decay)
    return getattr(torch, row.name)(**arguments)


def descend(row, tx):
    """Returns the parameters after each step, and the average of ASGD."""
    start, noise = (leaves(row, RECORDED[f"{what} {row.problem}"]) for what in ("start", "noise"))

    def body(carry, noise):
        params, state = carry
        grads = jax.tree.map(lambda p, n: SLOPE * p + n, params, noise)
        if row.zero_first:
            grads = jax.tree.map(lambda g: jnp.where(state[-1].count == 0, 0, g), grads)
        updates, state = tx.update(grads, state, params)
        params = gx.apply_updates(params, updates)
        return (params, state), (params, getattr(state[-1], "ax", None))

    start = jax.tree.map(jnp.asarray, start)
    return jax.jit(lambda: jax.lax.scan(body, (start, tx.init(start)), jax.tree.map(jnp.asarray, noise))[1])()


def deviation(row, actual, key):
    """Returns the largest difference of a step from the recorded step, relative to the leaf's largest step."""
    start, expected = (leaves(row, RECORDED[name]) for name in (f"start {row.problem}", key))
    worst = 0.0
    for name, x in expected.items():
        steps, recorded = (np.diff(np.concatenate([start[name][None], y]), axis=0) for y in (actual[name], x))
        assert np.isfinite(recorded).all()
        worst = max(worst, np.abs(steps - recorded).max() / np.abs(recorded).max())
    return worst


@pytest.mark.one_in(3)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_trajectory(row):
    params, average = descend(row, make(row))
    assert deviation(row, params, f"{row}{' wide' * (row.name == 'Muon')}") < 1e-9
    if row.name == "ASGD":
        assert deviation(row, average, f"{row} ax") < 1e-9


@pytest.mark.one_in(6)
@pytest.mark.parametrize("row", [row for row in ROWS if row.name == "Muon"], ids=str)
def test_muon_iterates_in_bfloat16_there(row):
    """PyTorch rounds to 8 bits in every product of the iteration: its steps are off by up to a twentieth. Two such
    iterations that round at different places differ from each other by more than each differs from the exact iteration.
    """
    assert 1e-4 < deviation(row, descend(row, make(row))[0], str(row)) < 0.1
    assert deviation(row, descend(row, make(row, iteration_dtype="bfloat16"))[0], str(row)) < 0.25


@pytest.mark.parametrize("name", torch.__all__)
def test_arguments_are_those_of_pytorch(name):
    ours = list(inspect.signature(getattr(torch, name)).parameters.values())
    own = {"iteration_dtype"} if name == "Muon" else set()
    found = [[p.name, p.kind.name, p.default] for p in ours if p.name not in own]
    recorded = json.loads(str(RECORDED["signatures"]))
    assert json.loads(json.dumps(found)) == recorded[name]
    assert set(recorded) == set(torch.__all__)


@pytest.mark.parametrize("name", torch.__all__)
def test_arguments_that_choose_an_implementation_change_nothing(name):
    make = getattr(torch, name)
    taken = {key: value for key, value in IGNORED.items() if key in inspect.signature(make).parameters}
    assert taken or name == "Muon"
    assert make(**taken) == make()


@pytest.mark.parametrize(("name", "arguments", "argument"), REFUSED)
def test_what_pytorch_refuses(name, arguments, argument):
    with pytest.raises(ValueError, match=rf"^torch\.{name}: {argument} "):
        getattr(torch, name)(**arguments)


@pytest.mark.parametrize("name", torch.__all__)
def test_arguments_of_the_wrong_kind(name):
    make = getattr(torch, name)
    with pytest.raises(TypeError, match=rf"^torch\.{name}: lr must be a number"):
        make([jnp.ones(3)])  # PyTorch's first argument is the parameters
    with pytest.raises(TypeError, match="params"):
        make(params=[jnp.ones(3)])
    parameters = inspect.signature(make).parameters
    for pair in ("betas", "etas", "step_sizes", "eps"):
        if pair in parameters and isinstance(parameters[pair].default, tuple):
            with pytest.raises(TypeError, match=rf"^torch\.{name}: {pair} must be a tuple of 2 numbers"):
                make(**{pair: 0.9})
    for flag in ("maximize", "nesterov", "amsgrad", "centered", "decoupled_weight_decay"):
        if flag in parameters:
            with pytest.raises(TypeError, match=rf"^torch\.{name}: {flag} must be True or False"):
                make(**{flag: 1})


def test_muon_takes_matrices():
    tx = torch.Muon()
    for shape in ((3,), (2, 3, 4), ()):
        with pytest.raises(ValueError, match="matri"):
            tx.init(jnp.ones(shape))


@pytest.mark.one_in(6)
@pytest.mark.parametrize("name", torch.__all__)
def test_values(name):
    """The results are ordinary transformations of gradtx: they can be printed, rebuilt, differentiated and traced."""
    tx = getattr(torch, name)()
    assert eval(repr(tx), {**vars(gx), **vars(adafactor), **vars(muon)}) == tx
    params = {"w": jnp.asarray([[0.5, -1.0], [0.0, 2.0]])}

    def loss(tx, params, grads):
        state = tx.init(params)
        for g in (grads, jax.tree.map(lambda g: -0.5 * g, grads)):
            updates, state = tx.update(g, state, params)
            params = gx.apply_updates(params, updates)
        return sum(jnp.sum(x) for x in jax.tree.leaves(params))

    slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    for grads in (jnp.zeros((2, 2)), jnp.asarray([[0.0, 1.0], [-1.0, 0.5]])):
        assert finite(slopes(tx, params, {"w": grads}))


def test_rates_may_be_arrays_and_functions():
    row = next(row for row in ROWS if row.name == "Adam" and row.decay != 1)
    lr = row.arguments["lr"]
    expected, _ = descend(row, make(row))
    function = torch.Adam(**{**row.arguments, "lr": lambda count: lr * row.decay**count})
    np.testing.assert_allclose(descend(row, function)[0]["w"], expected["w"], rtol=1e-12)
    rprop = torch.Rprop(lr=jnp.asarray(7.0), step_sizes=(1e-6, 0.5))
    assert rprop.links[0].learning_rate == 0.5
    assert torch.Rprop(lr=gx.constant_schedule(7.0), step_sizes=(1e-6, 0.5)).links[0].learning_rate == 0.5


def test_names_are_documented():
    for name in torch.__all__:
        assert ">>> " in inspect.getdoc(getattr(torch, name)), name
    assert STEPS >= 30


def test_neither_library_is_imported_unasked():
    lines = "import sys; from gradtx import *", "print('gradtx.compat' in sys.modules)"
    lines += "import gradtx.compat.torch", "print('torch' in sys.modules)"
    found = subprocess.check_output([sys.executable, "-c", "\n".join(lines)], text=True)
    assert found.split() == ["False", "False"]
