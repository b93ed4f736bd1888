"""Stores the NIST StRD problems of nonlinear regression as `tests/recordings/nist.json`, one line for each.

    pip download lmfit==1.3.4 --no-deps --no-binary :all: && tar xzf lmfit-1.3.4.tar.gz
    python tests/record_nist.py lmfit-1.3.4/NIST_STRD

The files `*.dat` there are those of NIST: Statistical Reference Datasets, Nonlinear Regression, National Institute of
Standards and Technology, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml. As a work of the United States
government they are in the public domain. What is kept of a file: its level of difficulty, the two starts, the
certified parameters with their standard deviations, the certified residual sum of squares, and the columns of the data,
the response first.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

FILE = pathlib.Path(__file__).parent / "recordings" / "nist.json"


def read(text: str) -> dict[str, Any]:
    """What is kept of one file of NIST's."""
    number = r"\s+(-?[\d.]+(?:[Ee][+-]?\d+)?)"
    rows = [[float(x) for x in row] for row in re.findall(rf"^\s*b\d+ ={number * 4}\s*$", text, re.MULTILINE)]
    first, second, certified, deviation = zip(*rows, strict=True)
    found = re.search(rf"Residual Sum of Squares:{number}", text)
    level = re.search(r"(\w+) Level of Difficulty", text)
    size = re.search(r"Number of Observations:\s+(\d+)", text)
    assert found
    assert level
    assert size
    lines = text[text.rindex("Data:") :].splitlines()[1:]
    data = [[float(x) for x in line.split()] for line in lines if line.strip()]
    assert len(data) == int(size[1])
    return {
        "level": level[1].lower(),
        "starts": [first, second],
        "certified": certified,
        "deviation": deviation,
        "sum_of_squares": float(found[1]),
        "data": list(zip(*data, strict=True)),
    }


def main(folder: pathlib.Path) -> None:
    problems = {path.stem: read(path.read_text()) for path in sorted(folder.glob("*.dat"))}
    lines = [f"{json.dumps(name)}: {json.dumps(problem)}" for name, problem in problems.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(problems)} problems in {FILE}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
