"""Pictures of schedules, and expressions from the command line."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx
from gradtx.viz.__main__ import main
from gradtx.viz.expression import parse
from gradtx.viz.schedules import cycle_starts
from gradtx.viz.style import curve
from tests.cases import SCHEDULES

NAMES = {name: getattr(gx, name) for name in gx.__all__}


def sawtooth(count):
    return 1.0 - (count % 10) / 10


def test_several_curves_on_one_picture():
    figure = gx.viz.plot_schedules({"a": gx.cosine_decay_schedule(0.1, 100), "saw": sawtooth}, steps=35)
    (axes,) = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "saw"]
    a, _, saw, marks, *_ = axes.get_lines()
    np.testing.assert_allclose(a.get_ydata(), gx.cosine_decay_schedule(0.1, 100)(jnp.arange(35)))
    assert list(marks.get_xdata()) == [10, 20, 30]
    assert saw.get_color() == marks.get_color()


def test_long_curves_keep_their_jumps():
    figure = gx.viz.plot_schedules({"long": lambda count: 1.0 - (count % 100_000) / 100_000}, steps=250_000)
    line = figure.axes[0].get_lines()[0]
    x = line.get_xdata()
    assert len(x) < 5000
    assert {99_999, 100_000, 199_999, 200_000} <= set(x.tolist())


def test_where_cycles_start():
    t = np.arange(40)
    assert list(cycle_starts(sawtooth(t))) == [10, 20, 30]
    assert list(cycle_starts(np.abs((t % 20) - 10))) == [10, 30]  # from falling to rising
    assert not len(cycle_starts(np.minimum(t, 10) / 10))  # warm-up is no cycle
    assert not len(cycle_starts(np.cos(t / 40 * np.pi)))
    assert not len(cycle_starts(np.ones(5)))
    assert not len(cycle_starts(np.ones(1)))


@pytest.mark.parametrize("case", [c for c in SCHEDULES if "halving" not in c.expression], ids=str)
def test_every_schedule_is_read_from_its_text(case):
    expected = case.make()
    assert parse(case.expression, NAMES) == expected
    assert parse(repr(expected), NAMES) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cosine_decay(0.1, 10)", "gradtx has no cosine_decay; did you mean cosine_decay_schedule"),
        ("cosine_decay_schedule", "is not called: write"),
        ("cosine_decay_schedule(0.1", "is not an expression"),
        ("__import__('os').system('ls')", "is not understood here"),
        ("(lambda: 1)()", "is not understood here"),
        ("[x for x in (1, 2)]", "is not understood here"),
        ("constant_schedule(2 ** 9)", "is not understood here"),
        ("constant_schedule('a' * 9)", "is not a number"),
        ("tree.norm(1.0)", "is not understood here"),
        ("tree(1.0)", "gradtx has no tree"),
        ("cosine_decay_schedule(0.1, -1)", r"decay_steps must be in \(0, inf\)"),
    ],
)
def test_texts_that_are_refused(text, match):
    with pytest.raises(ValueError, match=match):
        parse(text, NAMES)


def test_the_shell(tmp_path, capsys):
    out = tmp_path / "lr.png"
    assert main(["schedule", "cosine_decay_schedule(0.1, 1000)", "--steps", "1000", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(["schedule", "adam(0.1)", "--steps", "10", "--out", str(out)]) == 2
    assert "adam(0.1) is not a schedule, but a chain." in capsys.readouterr().err
    assert main(["schedule", "constant_schedule(1.0)", "--steps", "0", "--out", str(out)]) == 2
    assert "steps must be an integer of at least 1" in capsys.readouterr().err
    assert main(["schedule", "constant_schedule(1.0)", "--steps", "3", "--out", str(tmp_path / "no" / "lr.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "match"), [("no/race.png", "there is no folder"), ("race.txt", "cannot write 'txt'")])
def test_a_file_that_cannot_be_written_is_refused_before_the_race(name, match, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gradtx.viz.__main__.race", None)  # a function that is never called
    arguments = ["race", "--optimizers", "adam", "--out", str(tmp_path / name)]
    assert main(arguments) == 2
    assert match in capsys.readouterr().err


def test_it_runs_as_a_module():
    run = subprocess.run([sys.executable, "-m", "gradtx.viz", "--help"], capture_output=True, text=True, check=True)
    assert "schedule" in run.stdout


@pytest.mark.parametrize(
    "call",
    [
        "plot_schedules({'a': gx.constant_schedule(1.0)}, 3)",
        "plot_race(gx.viz.race({'newton': gx.newton()}, steps=2))",
        "animate_race(gx.viz.race({'newton': gx.newton()}, steps=2), 'never.gif')",
        "plot_range_test(gx.viz.range_test(lambda w: w * w, gx.sgd, 1.0, [()], steps=10))",
        "plot_metrics([{'loss': 1.0}])",
        "plot_sweep([[1.0]], [1], [1])",
        "style().__enter__()",
    ],
)
def test_without_matplotlib_the_error_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'gradtx\[viz\]'"):
        eval(f"gx.viz.{call}")


def test_curves_differ_in_colour_and_in_grey():
    looks = [tuple(curve(i).values()) for i in range(49)]
    assert len(set(looks)) == 49
    assert len({look[1:] for look in looks[:7]}) == 7  # line style and marker, without colour
    first, again = looks[0], looks[7]
    assert first[0] == again[0]
    assert first[1:] != again[1:]


@pytest.mark.parametrize(
    ("schedules", "steps", "match"),
    [
        ([gx.constant_schedule(1.0)], 10, "must be a dict from label to schedule"),
        ({"a": 0.1}, 10, "must be a dict from label to schedule"),
        ({}, 10, "there is nothing to draw"),
        ({"a": gx.constant_schedule(1.0)}, 1.5, "steps must be an integer"),
        ({"a": lambda count: jnp.log(count.astype(float))}, 10, "a is -inf at step 0"),
    ],
)
def test_what_cannot_be_drawn(schedules, steps, match):
    with pytest.raises((TypeError, ValueError), match=match):
        gx.viz.plot_schedules(schedules, steps)
