"""The layout of the code: one-way imports, small files and functions, documented public names with test cases."""

import ast
import difflib
import importlib
import inspect
import itertools
import pathlib
import subprocess
import sys

import pytest

import gradtx as gx

ROOT = pathlib.Path(gx.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Each row imports only from rows above it, and siblings by public names.
ROWS = [
    {"lazy", "frozen", "flags", "types", "leaf", "checks", "mesh", "sums"},
    {"tree", "select", "linalg", "assignment", "numerics", "slow_copies"},
    {"core", "schedules", "losses", "projections"},
    {"precision", "sharding", "storage", "transforms", "perturbations", "microbatching"},
    {"optimizers", "curvature"},
    {"constraints"},
    {"wrappers", "viz", "compat", "testing", "checkpoint"},
    {"rules"},
]


SCOPES = (gx.rules.Elementwise, gx.rules.Layerwise, gx.rules.Treewide)


def row(name):
    return next(i for i, names in enumerate(ROWS) if name in names)


def is_lazy(node):
    """Whether a node is a block `with lazily(...)`, which declares names without importing them."""
    return isinstance(node, ast.With) and "lazily(" in ast.unparse(node.items[0])


def imported(path):
    """Yields (module, name) for every import from the package; the name is None if the module itself is imported."""
    tree = ast.parse(path.read_text())
    lazy = {id(node) for block in ast.walk(tree) if is_lazy(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in lazy:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gradtx":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "gradtx")


def is_outside(parts):
    """Whether no file of the package imports this file, so that it may import the whole package."""
    return parts[0] == "testing" or parts[:2] == ("compat", "optax") or parts[-1] == "__main__"


@pytest.mark.parametrize("path", [f for f in FILES if f.parent != ROOT or f.name != "__init__.py"], ids=str)
def test_imports_point_up(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    own = row(parts[0])
    for module, name in imported(path):
        target = module.split(".")[1] if "." in module else name
        if module == "gradtx" and is_outside(parts):
            continue
        if target is None:
            assert is_outside(parts), f"{path.name} imports the whole package, which imports it"
            continue
        assert row(target) <= own, f"{path.name} imports {target}"
        if target == parts[0] == "optimizers":
            assert name in importlib.import_module(module).__all__, f"{path.name} uses the private {name} of a sibling"


def code_lines(node, last):
    """Returns the number of lines of a function or a file that ends at line `last`, without docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    owners = [x for x in ast.walk(node) if isinstance(x, documented) and ast.get_docstring(x) is not None]
    first = getattr(node, "lineno", 1)
    return last - first + 1 - sum(x.body[0].end_lineno - x.body[0].lineno + 1 for x in owners)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_budgets(path):
    """Files and functions stay small. Docstrings do not count, because they have a line for every argument."""
    limit = 200 if "optimizers" in path.parts else 350
    text = path.read_text()
    if path != ROOT / "__init__.py":  # a list of names, two lines for each
        assert code_lines(ast.parse(text), len(text.splitlines())) <= limit
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert code_lines(node, node.end_lineno) <= 60, node.name


def public():
    return {name: getattr(gx, name) for name in gx.__all__}


def test_every_name_that_a_file_exports_is_public_once():
    assert len(set(gx.__all__)) == len(gx.__all__)
    for folder in ("transforms", "optimizers", "schedules"):
        for path in (ROOT / folder).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
            names = getattr(importlib.import_module(module), "__all__", [])
            if path.name not in ("__init__.py", "clock.py", "curves.py", "cycles.py"):
                assert names, module
                # State classes need no example, because users never construct a state by hand.
                assert {name for name in names if not name.endswith("State")} <= set(gx.__all__), module


@pytest.mark.parametrize("name", [n for n, item in public().items() if not inspect.ismodule(item)])
def test_public_names_are_documented(name):
    item = public()[name]
    text = inspect.getdoc(item)
    assert text, name
    # States and base classes for new rules are shown in the examples of other objects.
    shown = {gx.chain, gx.named_chain, gx.stateless, gx.identity}
    part = item.__module__.startswith("gradtx.core") and item not in shown
    assert ">>> " in text or name.endswith("State") or part, name


@pytest.mark.parametrize("name", [n for n, x in vars(gx.rules).items() if not n.startswith("_")])
def test_names_for_authors_are_documented_and_in_one_place(name):
    assert name not in gx.__all__, f"gx.{name} and gx.rules.{name}"
    item = getattr(gx.rules, name)
    assert name in ("Hyper", "Number", "PARAM") or inspect.getdoc(item), name


def test_importing_is_light():
    heavy = ["matplotlib", "optax", "orbax", "chex", "sklearn", "tqdm", "rich"]
    code = f"import sys; from gradtx import *; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def statements(path):
    """Returns the lines of all function bodies, as Python prints them, without docstrings and argument lists."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines += [node.name, *(line for part in body for line in ast.unparse(part).splitlines())]
    return lines


def test_no_two_optimizers_are_copies():
    """A run of more than a handful of lines that two files share belongs in one place."""
    code = {path.name: statements(path) for path in (ROOT / "optimizers").rglob("*.py")}
    for (a, first), (b, second) in itertools.combinations(code.items(), 2):
        match = difflib.SequenceMatcher(None, first, second, autojunk=False).find_longest_match()
        assert match.size <= 5, (a, b, first[match.a : match.a + match.size])


def test_the_folder_of_an_optimizer_is_the_scope_of_its_rules():
    rules = [cls for cls in vars(gx).values() if isinstance(cls, type) and issubclass(cls, SCOPES)]
    for cls in rules:
        if ".optimizers." in cls.__module__:
            (base,) = (base for base in SCOPES if issubclass(cls, base))
            assert f".optimizers.{base.__name__.lower()}." in cls.__module__, cls
