"""Type checkers report users' mistakes as errors, and find no error in a correct program."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from tests.static_types import user_program

FOLDER = pathlib.Path(__file__).parent / "static_types"
MISTAKES = FOLDER / "expected_errors.py"


@pytest.mark.heavy
def test_mistakes_are_errors_and_a_right_program_has_none():
    pytest.importorskip("basedpyright")  # of the extra `dev`
    files = [MISTAKES, FOLDER / "user_program.py"]
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        *map(str, files),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parent.parent)
    found = {
        (pathlib.Path(x["file"]).name, x["range"]["start"]["line"] + 1, x["rule"])
        for x in json.loads(said.stdout)["generalDiagnostics"]
        if x["severity"] == "error"
    }
    expected = {
        (MISTAKES.name, number, rule)
        for number, line in enumerate(MISTAKES.read_text().splitlines(), 1)
        for rule in re.findall(r"# error: (\w+)$", line)
    }
    assert len(expected) > 20
    assert found == expected


def test_the_right_program_runs():
    assert user_program.main() < 2  # of about 3 at the start
