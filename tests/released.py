"""What each public constructor looked like at the last release, without its docstrings and comments.

    python -m tests.released        # at a release: writes tests/released.json

`tests/test_laws.py` asks all costly laws about the constructors that have changed since.
"""

import ast
import functools
import hashlib
import importlib
import inspect
import json
import pathlib

import gradtx as gx
from tests.libraries import GRADTX

RELEASED = pathlib.Path(__file__).with_suffix(".json")


@functools.cache
def _definitions(module: str) -> dict[str, str]:
    """The code of each function and class of a module, and that of the rest of the module under an empty name."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    named = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return {name: ast.dump(node) for name, node in named.items()}


def digest(constructor: str) -> str:
    """A hash of the code of a public constructor."""
    found = getattr(gx, constructor)
    code = _definitions(found.__module__).get(found.__name__, "")
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def changed() -> set[str]:
    """The constructors whose code is not that of the last release."""
    released = json.loads(RELEASED.read_text())
    return {name for name in GRADTX.constructors() if released.get(name) != digest(name)}


if __name__ == "__main__":
    RELEASED.write_text(json.dumps({name: digest(name) for name in sorted(GRADTX.constructors())}, indent=1) + "\n")
