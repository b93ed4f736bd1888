"""Programs written for optax run with the same losses after only their import line has changed.

The programs are in `tests/compat/programs`; each runs with optax and with the drop-in. optax computes schedules in
float32 even with x64, so for the comparison in float64 its schedules get float64 steps.
"""

import pathlib
import types

import jax
import numpy as np
import optax
import pytest

from tests.cases import _in_float64

FOLDER = pathlib.Path(__file__).parent / "programs"
LINE, OURS = "import optax\n", "import gradtx.compat.optax as optax\n"
PROGRAMS = {"images": 8, "characters": 50, "fit": 40}
"""The programs, with the steps to take in float64; in float32 they take as many as they like."""


def program(name, line=LINE):
    source = (FOLDER / f"{name}.py").read_text()
    assert source.count(LINE) == 1
    module = types.ModuleType(name)
    exec(compile(source.replace(LINE, line), name, "exec"), vars(module))
    return module


@pytest.fixture
def schedules_in_float64(monkeypatch):
    for name in ("warmup_cosine_decay_schedule", "linear_schedule"):
        monkeypatch.setattr(optax, name, _in_float64(getattr(optax, name)))


@pytest.mark.parametrize("name", ["fit", *(pytest.param(x, marks=pytest.mark.heavy) for x in ("images", "characters"))])
def test_in_float64(name, schedules_in_float64):
    steps = PROGRAMS[name]
    with jax.numpy_rank_promotion("allow"):
        expected = program(name).run("float64", steps)
    np.testing.assert_allclose(program(name, OURS).run("float64", steps), expected, rtol=1e-10, atol=1e-12)
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("name", [pytest.param(x, marks=[] if x == "fit" else pytest.mark.heavy) for x in PROGRAMS])
def test_in_float32(name):
    with jax.numpy_rank_promotion("allow"):
        expected = program(name).run("float32")
    np.testing.assert_allclose(program(name, OURS).run("float32"), expected, rtol=2e-5, atol=2e-6)
    first, *rest = expected
    assert min(rest[: len(rest) // 2]) < 0.9 * first
    if name == "images":
        assert expected[-1] > 0.8  # of the digits are recognized


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_codemod_knows_what_they_meet(name):
    """No line of these programs needs a change; the codemod only mentions a line search, whose steps may differ."""
    from gradtx.compat.optax.codemod import find

    found = [str(finding) for finding in find(FOLDER / f"{name}.py")]
    expected = {"images": [], "characters": ["optax.apply_if_finite", "inner_state[1]"], "fit": ["optax.lbfgs"]}
    assert [any(text in line for line in found) for text in expected[name]] == [True] * len(found)
