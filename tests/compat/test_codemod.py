"""The codemod lists the places that need attention when code moves from optax."""

import inspect
import json
import pathlib
import subprocess
import sys

import optax
import optax.contrib
import pytest

from gradtx.compat.optax import codemod
from gradtx.compat.optax.__main__ import main
from gradtx.compat.optax.differences import DROP_IN, FIELDS, NATIVE, markdown


def found(tmp_path, source, *, native=False, name="code.py"):
    path = tmp_path / name
    path.write_text(source)
    return [str(one).removeprefix(f"{path}:") for one in codemod.find(path, native=native)]


@pytest.mark.parametrize(
    "imports",
    [
        "import optax\noptax.flatten(0.1)",
        "import optax as ox\nox.flatten(0.1)",
        "from optax import flatten\nflatten(0.1)",
        "from optax import flatten as r\nr(0.1)",
        "import numpy, optax\noptax.flatten(0.1)",
        "import gradtx.compat.optax as optax\noptax.flatten(0.1)",
        "from gradtx.compat import optax\noptax.flatten(0.1)",
    ],
)
def test_names_are_followed_from_their_imports(tmp_path, imports):
    (line,) = found(tmp_path, imports)
    assert line.startswith("2:1: optax.flatten: here it returns each leaf in its own dtype")


@pytest.mark.parametrize(
    "source",
    [
        "import optax\noptax.contrib.acprop(0.1)",
        "import optax.contrib\noptax.contrib.acprop(0.1)",
        "import optax.contrib as c\nc.acprop(0.1)",
        "from optax import contrib\ncontrib.acprop(0.1)",
        "from optax.contrib import acprop as a\na(0.1)",
    ],
)
def test_modules(tmp_path, source):
    (line,) = found(tmp_path, source)
    assert line.startswith("2:1: optax.contrib.acprop: here it leaves the gradient unchanged")


CASES = {
    "import optax\ntx = optax.adam(0.1).update": [],
    "import flax\nflax.flatten(0.1)\nflatten = 3\nstate = [1]\nstate[0]": [],
    "from . import optax\noptax.flatten(0.1)": [],
    "import optax\noptax.adamm(0.1)": ["2:1: optax.adamm: has no counterpart here. There is optax.adam."],
    "from optax import adamm": ["1:19: optax.adamm: has no counterpart here. There is optax.adam."],
    "import optax\noptax.contrib.x": ["2:1: optax.contrib.x: has no counterpart here."],
    "from optax._src import base": ["1:24: optax._src.base: is private in optax"],
    "import optax\noptax._src.base.f()": ["2:1: optax._src.base.f: is private in optax"],
    "import optax._src.base": ["1:8: optax._src.base: is private in optax"],
    "from optax import *": ["1:1: from optax import *: names are not followed"],
    "import optax\noptax.adamw(0.1, weight_decai=0.1)": [
        "2:1: optax.adamw: takes no argument weight_decai. There is weight_decay."
    ],
    "import optax\noptax.clip(1, 2, 3)": ["2:1: optax.clip: takes 1 arguments by position, and 3 are given"],
    "import optax\noptax.chain(*links)\noptax.clip(*links)\noptax.adam(**given)": [],
    "import optax\n(optax.adafactor(0.1),\n optax.adafactor(0.1, momentum=0.9))": [
        "3:2: optax.adafactor: here it averages"
    ],
    "import optax\noptax.inject_hyperparams(optax.adamw)(0.1)": [],
    "import optax\noptax.inject_hyperparams(optax.adamw)(0.1, mask=m)": ["2:1: optax.inject_hyperparams: here"],
    "import optax\noptax.inject_hyperparams(optax.adamw, static_args='mask')(0.1, mask=m)": [],
    "import optax\nisinstance(s, optax.EmptyState)\noptax.EmptyState()": ["2:15: optax.EmptyState: here it is rarely"],
    "import optax\nisinstance(s, (int, optax.EmptyState))": ["2:21: optax.EmptyState: here it is rarely"],
    "import optax\nopt_state[0].mu\nself.state[-1]\nopt_state['a']\nvalues[0]": [
        "2:1: opt_state[0]: a state is read by position",
        "3:1: state[-1]: a state is read by position",
    ],
    "import optax\ns.ns_coeffs": ["2:1: .ns_coeffs: MuonState has no such field here"],
    "def f(:": ["1:7: cannot be read: invalid syntax."],
}


@pytest.mark.parametrize(("source", "expected"), CASES.items(), ids=map(repr, CASES))
def test_findings(tmp_path, source, expected):
    lines = found(tmp_path, source)
    assert len(lines) == len(expected)
    assert all(line.startswith(text) for line, text in zip(lines, expected, strict=True)), lines


def test_names_of_gradtx(tmp_path):
    source = (
        "import optax\noptax.adam(0.1)\noptax.MultiSteps(tx, 4)\noptax.contrib.muon(0.1)\noptax.l2_loss(a, b)\n"
        "optax.adafactor(0.1, weight_decay_mask=m)"
    )
    assert found(tmp_path, source) == []
    lines = found(tmp_path, source, native=True)
    texts = ["3:1: optax.MultiSteps: in gradtx it is accumulate"]
    texts += [
        "4:1: optax.contrib.muon: in gradtx it adds nothing to norms",
        "4:1: optax.contrib.muon: in gradtx it uses AdamW",
        "4:1: optax.contrib.muon: its name in gradtx is gx.muon.",
        "5:1: optax.l2_loss: its name in gradtx is gx.losses",
    ]
    texts += ["6:1: optax.adafactor: in gradtx it has the argument mask"]
    assert [line.startswith(text) for line, text in zip(lines, texts, strict=True)] == [True] * 6, lines


def notebook(*cells):
    return json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]})


def test_notebooks(tmp_path):
    cells = [
        ("markdown", ["import optax"]),
        ("code", ["%matplotlib inline\n", "!pip list\n", "import optax\n"]),
        ("code", "%%bash\nls optax.flatten"),
        ("code", "optax.flatten(0.1)"),
        ("code", "def f(:"),
    ]
    lines = found(tmp_path, notebook(*cells), name="a.ipynb")
    assert [line[:10] for line in lines] == ["cell 4:1:1", "cell 5:1:7"]
    (line,) = found(tmp_path, "{}", name="b.ipynb")
    assert line.startswith("1:1: cannot be read")


def test_the_program(tmp_path, capsys):
    assert main([str(tmp_path)]) == 0
    folder = tmp_path / "inside"
    for name in (".hidden", "site-packages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "c.py").write_text("import optax\noptax.flatten(0.1)")
    (folder / "a.py").write_text("import optax\noptax.flatten(0.1)")
    (folder / "b.py").write_text("def f(:")
    (folder / "c.txt").write_text("optax.flatten(0.1)")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main([str(tmp_path), str(folder / "a.py")]) == 1
    out, err = capsys.readouterr()
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"{folder}/a.py:2:1", f"{folder}/b.py:1:7"]
    assert err == "2 places to look at in 2 files\n"
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments in ([], [str(tmp_path / "nothing")], ["--unknown", str(tmp_path)]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


def test_it_runs_as_a_module(tmp_path):
    (tmp_path / "a.py").write_text("import optax\noptax.flatten(0.1)")
    command = [sys.executable, "-m", "gradtx.compat.optax", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "optax.flatten" in done.stdout


# --- the list of differences is about things that exist


def at(path):
    target = optax
    for name in path.split("."):
        target = getattr(target, name)
    return target


@pytest.mark.parametrize("one", [*DROP_IN, *NATIVE], ids=lambda one: f"{one.name} {one.argument}")
def test_differences_name_what_optax_has(one):
    for name in one.names:
        target = at(name)
        assert codemod._lookup(name) is not None, name
        known = {"isinstance", *inspect.signature(target).parameters}
        if "inject" in name:  # whose result takes the arguments of an optimizer
            known |= {"mask", "weight_decay_mask"}
        assert {*one.argument.split(), *one.without.split()} <= known, name
    assert one.todo.endswith(".")
    assert not one.what.endswith(".")


def test_fields_name_what_optax_has():
    for field, (kind, _) in FIELDS.items():
        found = next(
            getattr(module, kind, None)
            for module in (optax, optax.contrib, optax._src.transform)
            if hasattr(module, kind)
        )
        assert field in found._fields


def test_the_table():
    """The page contains the current table; `print(markdown(DROP_IN))` prints it."""
    table = markdown(DROP_IN)
    page = (pathlib.Path(__file__).parents[2] / "docs" / "converting.md").read_text()
    assert f"-->\n{table}<!-- end of differences -->" in page
    assert table.count("\n") == len(DROP_IN) + 2
    assert "| `adafactor` with `momentum` |" in table
