"""Finds the places that need attention when code moves from optax to gradtx. It reads source code and changes nothing.

It follows names from their imports (`import optax as ox`, `from optax.contrib import muon`, ...) through chains of
attributes. It looks up in the drop-in package, `gradtx.compat.optax`, whether a name exists and which arguments it
takes. Differences that cannot be looked up are listed in `differences`.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import inspect
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from gradtx.compat.optax.differences import DROP_IN, FIELDS, NATIVE, Difference

__all__ = ["Finding", "find"]

ROOTS = ("optax", "gradtx.compat.optax")
PACKAGE = "gradtx.compat.optax"
MODULES = (
    "assignment",
    "contrib",
    "experimental",
    "losses",
    "perturbations",
    "projections",
    "schedules",
    "second_order",
    "transforms",
    "tree",
    "tree_utils",
)


class Finding(NamedTuple):
    """A place that needs attention."""

    path: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.text}"


def find(path: pathlib.Path, *, native: bool = False) -> list[Finding]:
    """Finds the places in a file that need attention. A file that cannot be read gives one finding.

    Args:
      path: A Python file or a notebook.
      native: Whether to include the differences of gradtx's own names. Default False: only the differences of
      `gradtx.compat.optax`.
    """
    shown = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        cells = _cells(text) if path.suffix == ".ipynb" else {"": text}
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        return [Finding(shown, 1, 1, f"cannot be read: {error}.")]
    found: list[Finding] = []
    imports = _Imports()
    for cell, source in cells.items():
        where = shown + cell
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError) as error:
            line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
            found.append(Finding(where, line, column, f"cannot be read: {getattr(error, 'msg', error)}."))
            continue
        imports.read(tree)
        looker = _Looker(where, imports, native)
        looker.look(tree)
        found += sorted(set(looker.found))
    return found


def _cells(text: str) -> dict[str, str]:
    """Returns the code cells of a notebook, with empty lines in place of IPython commands."""
    found: dict[str, str] = {}
    for i, cell in enumerate(json.loads(text)["cells"]):
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            code = ["" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines]
            found[f":cell {i + 1}"] = "\n".join(code) if not (lines and lines[0].startswith("%%")) else ""
    return found


class _Imports:
    """Maps the names in a file to their paths in optax, without `optax.`; the path of the package itself is empty."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.private: list[tuple[ast.AST, str]] = []
        self.stars: list[ast.AST] = []

    def read(self, tree: ast.AST) -> None:
        """Records the imports of a file, or of the next cell of a notebook."""
        self.private, self.stars = [], []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._module(alias)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self._names(node, node.module)

    def _module(self, alias: ast.alias) -> None:
        inside = _behind_root(alias.name)
        if inside is None:
            return
        if alias.asname:
            self.names[alias.asname] = inside
        elif alias.name.split(".")[0] == "optax":
            self.names["optax"] = ""
        if "_src" in inside.split("."):
            self.private.append((alias, inside))

    def _names(self, node: ast.ImportFrom, module: str) -> None:
        inside = _behind_root(module)
        if inside is None and f"{module}.optax" in ROOTS:
            for alias in node.names:
                if alias.name == "optax":
                    self.names[alias.asname or alias.name] = ""
        if inside is None:
            return
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(node)
                continue
            path = f"{inside}.{alias.name}".lstrip(".")
            self.names[alias.asname or alias.name] = path


def _behind_root(module: str) -> str | None:
    for root in ROOTS:
        if module == root or module.startswith(root + "."):
            return module[len(root) + 1 :]
    return None


class _Looker:
    """Walks through a piece of source code and collects findings."""

    def __init__(self, path: str, imports: _Imports, native: bool) -> None:
        self.path, self.imports, self.native = path, imports, native
        self.found: list[Finding] = []

    def note(self, node: Any, text: str) -> None:
        """Adds a finding at a node."""
        self.found.append(Finding(self.path, node.lineno, node.col_offset + 1, text))

    def look(self, tree: ast.AST) -> None:
        """Checks every use of a name of optax, and every access to a state."""
        for node, inside in self.imports.private:
            self.note(node, f"optax.{inside}: {_PRIVATE}")
        for node in self.imports.stars:
            self.note(node, "from optax import *: names are not followed from here. Import what is used by name.")
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.ImportFrom, ast.Import)):
                self._import(node)
            elif isinstance(node, (ast.Name, ast.Attribute)):
                parent = parents.get(node)
                if not isinstance(parent, ast.Attribute):
                    self._use(node, parents)
            if isinstance(node, ast.Subscript) and self.imports.names:
                self._position(node)
            if isinstance(node, ast.Attribute) and self.imports.names:
                self._field(node)

    def _import(self, node: ast.ImportFrom | ast.Import) -> None:
        if isinstance(node, ast.Import) or not node.module:
            return
        inside = _behind_root(node.module)
        for alias in node.names if inside is not None else []:
            path = f"{inside}.{alias.name}".lstrip(".")
            if alias.name != "*" and (_is_private(path) or _lookup(path) is None):
                self.note(alias, _unknown(path))

    def _use(self, node: ast.Name | ast.Attribute, parents: dict[ast.AST, ast.AST]) -> None:
        """Checks a name, or the longest chain of attributes that begins with the name."""
        chain = _chain(node)
        if not chain or chain[0][0] not in self.imports.names:
            return
        path = self.imports.names[chain[0][0]]
        here: Any = chain[0][1]
        for name, part in chain[1:]:
            if path and path not in MODULES and not _is_private(path):
                break  # a method or an attribute of the object found so far
            path, here = f"{path}.{name}".lstrip("."), part
        if not path or path in MODULES:
            return
        if _is_private(path) or _lookup(path) is None:
            if not isinstance(here, ast.Name):  # a failed import already has a finding
                self.note(here, _unknown(path))
            return
        parent = parents.get(here)
        call = parent if isinstance(parent, ast.Call) and parent.func is here else None
        outer = parents.get(call) if call is not None else None
        calls = [x for x in (call, outer) if isinstance(x, ast.Call) and x.func in (here, call)]
        self._known(here, path, calls, _is_asked(here, parents))

    def _known(self, node: Any, path: str, calls: list[ast.Call], asked: bool) -> None:
        """Checks a name that exists, the call of it, and the call of the result."""
        target = _lookup(path)
        for call in calls[:1]:
            for text in _refused(path, target, call):
                self.note(node, text)
        given = _given(target, calls)
        for where, differences in (("here", DROP_IN), ("in gradtx", NATIVE if self.native else ())):
            for one in differences:
                if path in _spellings(one) and _applies(one, given, asked):
                    self.note(node, f"optax.{path}: {where} it {one.what}. {one.todo}")
        if self.native:
            name = _native_name(path)
            if name and name != f"gx.{path}":
                self.note(node, f"optax.{path}: its name in gradtx is {name}.")

    def _position(self, node: ast.Subscript) -> None:
        index = node.slice.operand if isinstance(node.slice, ast.UnaryOp) else node.slice
        if not (isinstance(index, ast.Constant) and type(index.value) is int):
            return
        name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
        if "state" in name.lower():
            self.note(
                node,
                f"{name}[{ast.unparse(node.slice)}]: a state is read by position, and some chains differ here. "
                "Use optax.tree.get(state, 'mu'), with the name of the field.",
            )

    def _field(self, node: ast.Attribute) -> None:
        kind, instead = FIELDS.get(node.attr, ("", ""))
        target = _lookup(kind) or _lookup(f"contrib.{kind}") if kind else None
        if kind and node.attr not in getattr(target, "_fields", ()):
            self.note(node, f".{node.attr}: {kind} has no such field here. Use {instead}.")


# --- names


_PRIVATE = "is private in optax, and does not exist here. Use the public name."


def _is_private(path: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in path.split("."))


def _chain(node: ast.AST) -> list[tuple[str, Any]]:
    """Returns the names of `a.b.c` with their nodes; an empty list for other expressions."""
    if isinstance(node, ast.Name):
        return [(node.id, node)]
    if isinstance(node, ast.Attribute):
        before = _chain(node.value)
        return [*before, (node.attr, node)] if before else []
    return []


@functools.cache
def _lookup(path: str) -> Any:
    """Returns the object at a path in `gradtx.compat.optax`; None if the path does not exist."""
    found: Any = importlib.import_module(PACKAGE)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            try:
                found = importlib.import_module(f"{found.__name__}.{name}") if inspect.ismodule(found) else None
            except ImportError:
                return None
    return found


def _unknown(path: str) -> str:
    if _is_private(path):
        return f"optax.{path}: {_PRIVATE}"
    module, _, name = path.rpartition(".")
    there = _lookup(module) if module else importlib.import_module(PACKAGE)
    close = difflib.get_close_matches(name, dir(there), 1) if there is not None else []
    hint = f" There is {'.'.join(filter(None, ('optax', module, close[0])))}." if close else ""
    return f"optax.{path}: has no counterpart here.{hint}"


def _spellings(one: Difference) -> set[str]:
    """Returns the paths of a difference's names in optax: at the top level, and in modules."""
    return {*one.names, *(f"{module}.{name}" for module in ("losses", "schedules", "transforms") for name in one.names)}


def _is_asked(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the class at a node is the second argument of `isinstance`, or in a tuple there."""
    parent = parents.get(node)
    if isinstance(parent, ast.Tuple):
        parent = parents.get(parent)
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id == "isinstance"


def _applies(one: Difference, given: set[str], asked: bool) -> bool:
    if one.argument == "isinstance":
        return asked
    return (not one.argument or bool(given & set(one.argument.split()))) and one.without not in given


def _given(target: Any, calls: list[ast.Call]) -> set[str]:
    """Returns the names of the arguments that calls pass, except arguments in `**kwargs`, which are unknown."""
    names = {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}
    parameters = _parameters(target)
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names | {name for call in calls[:1] for name in positional[: len(call.args)]}


def _parameters(target: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return []


def _refused(path: str, target: Any, call: ast.Call) -> Iterator[str]:
    """Yields a message for each argument of a call that `gradtx.compat.optax` does not accept."""
    parameters = _parameters(target)
    if not parameters and not inspect.isfunction(target):
        return
    known = {p.name for p in parameters}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for keyword in call.keywords:
            if keyword.arg and keyword.arg not in known:
                close = difflib.get_close_matches(keyword.arg, known, 1)
                hint = f" There is {close[0]}." if close else ""
                yield f"optax.{path}: takes no argument {keyword.arg}.{hint}"
    most = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    unseen = any(isinstance(x, ast.Starred) for x in call.args) or any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(call.args) > most and not unseen:
        yield f"optax.{path}: takes {most} arguments by position, and {len(call.args)} are given. Give them by name."


def _native_name(path: str) -> str:
    """Returns the name in gradtx itself, such as gx.losses.l2_loss; empty if gradtx has no function of this name."""
    gx = importlib.import_module("gradtx")
    name = path.rpartition(".")[2]
    if name in gx.__all__:
        return f"gx.{name}"
    for module in ("losses", "tree", "projections", "perturbations"):
        if name in dir(getattr(gx, module, None)) and (module in path or "." not in path):
            return f"gx.{module}.{name}"
    return ""
