"""Checks that every argument of a public callable is documented, and copies shared lines from the glossary.

    python -m docs.glossary            report what is missing, stale or contradictory
    python -m docs.glossary --write    fill in and update the arguments that the glossary knows
    python -m docs.glossary --list     write docs/undocumented.txt, the functions that still lack documentation
    python -m docs.glossary --write --only gradtx.optimizers --missing

Most arguments mean the same in many functions. `docs/glossary.toml` explains each of them once, and `--write` copies
the explanation into the docstrings as static text, because editors show docstrings without running the code.

A line below `Args:` reads: what the argument means; anything that this function adds; the limits and the default.

    b2: Decay rate of the second moment (the moving average of the squared gradient); a value closer to 1 averages over
      more steps. In [0, 1); default 0.999.

- A line is shared if it begins with the first seven words of a sentence of the glossary. It must then begin with the
  whole sentence, and may continue. A line that begins differently belongs to the function, and is not changed.
- The last sentence repeats the limits that the code declares (`hyper(0.999, ge=0, lt=1)`) and the default of the
  signature. `--write` appends or updates this sentence. If a line states its limits or its default in different words,
  the words stay, but a number after the word "default" must be the default of the signature.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import importlib
import inspect
import math
import pathlib
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from typing import Any

import jax

import gradtx as gx

__all__ = ["Callable", "callables", "documented", "problems", "undocumented", "write"]

HERE = pathlib.Path(__file__).parent
GLOSSARY = HERE / "glossary.toml"
UNDOCUMENTED = HERE / "undocumented.txt"
WIDTH = 120
AFTER_ARGS = ("Returns:", "Raises:", "State:", "References:", "Reference:", "Example:", "Examples:", ">>> ")
NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
LIMIT = (
    r"In [\[(][^\])]*[\])]|Not negative|Not positive|Positive|At (?:least|most) [^\s;]+?|Above [^\s;]+?|One of [^;]*"
)
CLAUSE = re.compile(rf"(?:(?P<limits>{LIMIT})(?:; default .*)?|Default .*)\.")
SHARED_WORDS = 7
SAYS_LIMIT = re.compile(
    r"negative|positive|at least|at most|above \d|[\[(]-?[\d.einf]+, -?[\d.einf]+[\])]", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Callable:
    """A public function or class: its name as users write it, the object, and the module to which it belongs."""

    name: str
    item: Any

    @property
    def module(self) -> str:
        return inspect.unwrap(self.item).__module__

    @functools.cached_property
    def parameters(self) -> list[inspect.Parameter]:
        return [p for p in inspect.signature(self.item).parameters.values() if not p.name.startswith("_")]

    @functools.cached_property
    def args(self) -> dict[str, str]:
        """Returns the documented arguments, each with its text on one line."""
        return documented(inspect.getdoc(self.item) or "")

    @functools.cached_property
    def missing(self) -> list[inspect.Parameter]:
        """Returns the parameters without a line below `Args:`."""
        return [p for p in self.parameters if p.name not in self.args]

    def limits(self, name: str) -> str:
        """Returns the limits that the code declares for an argument, in words; "" if it declares none."""
        for cls in (self.item, *self._links):
            check = getattr(cls, "_checks", {}).get(name) if isinstance(cls, type) else None
            if check is not None:
                return _limits(check)
        return ""

    @functools.cached_property
    def _links(self) -> list[type]:
        """Returns the classes of the transformations that a function makes with its default settings."""
        if isinstance(self.item, type) or ".optimizers." not in self.module:
            return []
        required = [
            p.name for p in self.parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        try:
            made = self.item(**dict.fromkeys(required, 1))
        except (TypeError, ValueError):
            return []
        leaves = jax.tree.leaves(made, is_leaf=lambda x: x is not made and isinstance(x, gx.GradientTransformation))
        return _all_links(made, leaves)


def _all_links(made: Any, leaves: list[Any]) -> list[type]:
    found = [type(made)]
    for child in leaves:
        if isinstance(child, gx.GradientTransformation):
            inner = jax.tree.leaves(
                child, is_leaf=lambda x, c=child: x is not c and isinstance(x, gx.GradientTransformation)
            )
            found += _all_links(child, inner)
    return found


def callables() -> list[Callable]:
    """Returns each public function and class once; leaves out classes of states, which users do not make by hand."""
    return list(_walk(gx, "gx", set()))


def _walk(namespace: Any, path: str, seen: set[int]) -> Iterator[Callable]:
    names = getattr(namespace, "__all__", None) or [name for name in dir(namespace) if not name.startswith("_")]
    for name in sorted(names):
        item = getattr(namespace, name)
        if not getattr(item, "__module__", getattr(item, "__name__", "")).startswith("gradtx") or id(item) in seen:
            continue
        if inspect.ismodule(item):
            seen.add(id(item))
            yield from _walk(item, f"{path}.{name}", seen)
        elif callable(item) and not (isinstance(item, type) and issubclass(item, (tuple, BaseException))):
            seen.add(id(item))
            if inspect.isfunction(item) or isinstance(item, type):
                yield Callable(f"{path}.{name}", item)


# --- docstrings


def documented(doc: str) -> dict[str, str]:
    """Returns the entries below `Args:` by name, each with its text on one line. An entry may have several names."""
    lines = doc.splitlines()
    found = {}
    for names, first, last in _entries(lines):
        text = " ".join(line.strip() for line in lines[first:last]).partition(":")[2].strip()
        found.update(dict.fromkeys(names, text))
    return found


def _entries(lines: list[str]) -> list[tuple[list[str], int, int]]:
    """Returns, for every entry below `Args:`, its names, the number of its first line, and of the line after it."""
    start = next((i for i, line in enumerate(lines) if line.strip() == "Args:"), None)
    if start is None:
        return []
    outer = _indent(lines[start])
    found: list[tuple[list[str], int, int]] = []
    inner = None
    for i in range(start + 1, len(lines)):
        if lines[i].strip() and _indent(lines[i]) <= outer:
            break
        match = re.match(r"\s*((?:\*{0,2}\w+, )*\*{0,2}\w+):(?: |$)", lines[i])
        if match and inner in (None, _indent(lines[i])):
            inner = _indent(lines[i])
            found.append(([name.strip("* ") for name in match[1].split(",")], i, i + 1))
        elif lines[i].strip() and found:
            found[-1] = (*found[-1][:2], i + 1)
    return found


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


# --- the text of an argument


@functools.cache
def _glossary() -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads(GLOSSARY.read_text())


def _sentences(text: str) -> list[str]:
    return re.split(
        r"(?<=[.!?)])(?<!e\.g\.)(?<!i\.e\.)(?<! al\.)(?:(?<=[.!?])|(?<=[.!?]\)))\s+(?=[A-Z`'(\d]|optax)", text.strip()
    )


def _sense(fn: Callable, name: str, text: str | None) -> dict[str, Any] | None:
    """Returns the glossary's entry that a line repeats; without a line, the first entry for the function's module."""
    for sense in _glossary().get(name, []):
        if text is None:
            if any(f"{fn.module}.".startswith(f"{prefix}.") for prefix in sense.get("in", [fn.module])):
                return sense
        elif text.split()[:SHARED_WORDS] == sense["text"].split()[:SHARED_WORDS]:
            return sense
    return None


def _shown(value: Any) -> str | None:
    """Returns a default as docstrings write it; None if the signature has no default that can be written in words."""
    if isinstance(value, (bool, str)) or (isinstance(value, tuple) and value):
        return repr(value)
    if isinstance(value, (int, float)):
        if value == math.inf:
            return "infinity"
        if isinstance(value, int) or (value.is_integer() and abs(value) < 1e6):
            return str(int(value))
        text = f"{value:.0e}" if abs(value) < 1e-2 and value == float(f"{value:.0e}") else repr(value)
        return re.sub(r"e([-+])0*(\d)", lambda m: f"e{m[1].strip('+')}{m[2]}", text)
    return None


def _limits(check: Any) -> str:
    """Returns the limits that a field checks, in words."""
    owner, keywords = getattr(check, "__self__", None), getattr(check, "keywords", {})
    owner = getattr(getattr(check, "func", None), "__self__", owner)
    if "options" in keywords:
        return f"One of {', '.join(repr(x) for x in keywords['options'])}"
    if "ge" in keywords and "le" not in keywords:
        return "Not negative" if keywords["ge"] == 0 else f"At least {keywords['ge']}"
    if not hasattr(owner, "lt"):
        return ""
    low, high = max(owner.ge, owner.gt), min(owner.le, owner.lt)
    if low == -math.inf and high == math.inf:
        return ""
    if high == math.inf:
        words = {(True, 0): "Not negative", (False, 0): "Positive"}
        return words.get((owner.ge == low, low), f"{'At least' if owner.ge == low else 'Above'} {_shown(low)}")
    if low == -math.inf and high == 0 and owner.le == 0:
        return "Not positive"
    return f"In {owner}"


def _clause(limits: str, default: str | None, reasons: dict[str, str]) -> str:
    """Returns the sentence that repeats the limits and the default; "" if there is nothing to repeat."""
    if default is None:
        return f"{limits}." if limits else ""
    default += f" ({reasons[default]})" if default in reasons else ""
    return f"{limits}; default {default}." if limits else f"Default {default}."


def expected(fn: Callable, p: inspect.Parameter, text: str | None) -> str | None:
    """Returns the line as it should be, given the present line; None without a line and an entry in the glossary."""
    sense = _sense(fn, p.name, text)
    if text is None and sense is None:
        return None
    parts = _sentences(text) if text else []
    parts = [sense["text"], *parts[1:]] if sense else parts
    reasons = dict(sense.get("why", {})) if sense else {}
    limits = fn.limits(p.name) or (sense or {}).get("limits", "")
    if len(parts) > 1 and (last := CLAUSE.fullmatch(parts[-1])):
        limits = limits or last["limits"] or ""  # a function's own checks declare nothing
        kept = re.search(r"default (\S+) \((.*)\)\.$", parts.pop(), re.IGNORECASE)
        if kept and kept[1] not in reasons:
            reasons[kept[1]] = kept[2]
    said = " ".join(parts)
    own = " ".join(parts[1:] if sense else parts)
    if SAYS_LIMIT.search(own) or (limits.startswith("One of") and all(x in said for x in limits[7:].split(", "))):
        limits = ""
    default = None if p.default is p.empty or "default" in said.lower() else _shown(p.default)
    if said and said[-1] not in ".!?)`":
        said += "."
    return f"{said} {_clause(limits, default, reasons)}".strip()


def _contradictions(p: inspect.Parameter, text: str) -> Iterator[str]:
    """Yields the claims of a line about the default that contradict the signature."""
    value = p.default
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        for number in re.findall(rf"\bdefault (?:is )?({NUMBER})(?![\w/])", text, re.IGNORECASE):
            if float(number) != value:
                yield f"says default {number}, the signature {value}"


def problems() -> Iterator[str]:
    """Finds shared lines that are out of step, limits and defaults that contradict the code, and unknown arguments."""
    for name, senses in _glossary().items():
        for sense in senses:
            if len(_sentences(sense["text"])) != 1 or not sense["text"].endswith("."):
                yield f"glossary.toml: {name}: write one sentence"
    for fn in callables():
        for p in fn.parameters:
            text = fn.args.get(p.name)
            if text is None:
                continue
            wanted = expected(fn, p, text) or ""
            if not wanted.startswith(text.rstrip(".")):  # what --write would append is not missed
                yield f"{fn.name}: {p.name} is out of step:\n  {text}\n  {wanted}"
            yield from (f"{fn.name}: {p.name} {problem}" for problem in _contradictions(p, text))
        names = {p.name for p in fn.parameters}
        unknown = [name for name in fn.args if name not in names]
        yield from (f"{fn.name}: {name} is documented, but is no argument" for name in unknown)


def undocumented() -> list[str]:
    """Returns the callables with arguments that have no line below `Args:`."""
    return sorted(fn.name for fn in callables() if fn.missing)


# --- writing


def write(only: str = "gradtx") -> None:
    """Fills in the arguments that the glossary knows and updates the shared lines, in the modules below `only`."""
    by_file: dict[pathlib.Path, list[Callable]] = {}
    for fn in callables():
        path = inspect.getsourcefile(inspect.unwrap(fn.item))
        if path and fn.parameters and fn.module.startswith(only):
            by_file.setdefault(pathlib.Path(path), []).append(fn)
    for path, fns in by_file.items():
        _write_file(path, fns)


def _write_file(path: pathlib.Path, fns: list[Callable]) -> None:
    source = path.read_text()
    nodes = {x.name: x for x in ast.parse(source).body if isinstance(x, (ast.FunctionDef, ast.ClassDef))}
    lines = source.splitlines()
    changes = []
    for fn in fns:
        node = nodes.get(inspect.unwrap(fn.item).__name__)
        if node is not None and ast.get_docstring(node):
            doc: Any = node.body[0]
            changes.append((doc.lineno - 1, doc.end_lineno, fn, doc.col_offset))
    for first, last, fn, indent in sorted(changes, key=lambda change: -change[0]):
        lines[first:last] = _rewritten(lines[first:last], fn, indent)
    new = "\n".join(lines) + "\n"
    if new != source:
        path.write_text(new)


def _rewritten(doc: list[str], fn: Callable, indent: int) -> list[str]:
    """Returns the lines of a docstring, including the quotes, with the lines of its arguments as they should be."""
    wanted = {p.name: expected(fn, p, fn.args.get(p.name)) for p in fn.parameters}
    new = {name: text for name, text in wanted.items() if text and text != fn.args.get(name)}
    for name in new:
        old = _sentences(fn.args.get(name, ""))[0]
        if old and old.rstrip(".") != _sentences(new[name])[0].rstrip("."):
            sys.stdout.write(f"{fn.name}: {name}: the glossary replaces: {old}\n")
    if not new:
        return doc
    stars = {p.name: {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") for p in fn.parameters}
    if len(doc) == 1:
        doc = [doc[0].removesuffix('"""').rstrip(), " " * indent + '"""']
    entries = _entries(doc)
    if not any(line.strip() == "Args:" for line in doc):
        at = next((i for i, line in enumerate(doc) if line.strip().startswith(AFTER_ARGS)), len(doc) - 1)
        block = ["Args:", *([""] if at < len(doc) - 1 else [])]
        blank = [""] if doc[at - 1].strip() else []
        doc = [*doc[:at], *blank, *(" " * indent + line if line else "" for line in block), *doc[at:]]
    body = [line for names, first, last in entries for line in [(names, doc[first:last])]]
    start = next(i for i, line in enumerate(doc) if line.strip() == "Args:") + 1
    end = max((last for _, _, last in entries), default=start)
    blocks = {tuple(names): block for names, block in body}
    order = [p.name for p in fn.parameters]
    for name, text in new.items():
        key = next((names for names in blocks if name in names), (name,))
        shown = ", ".join(stars[x] + x for x in key)
        blocks[key] = _wrapped(f"{shown}: {text}", indent + 2)
    place = {key: order.index(key[0]) if key[0] in order else len(order) for key in blocks}
    return [*doc[:start], *(line for key in sorted(blocks, key=place.__getitem__) for line in blocks[key]), *doc[end:]]


def _wrapped(text: str, indent: int) -> list[str]:
    """Wraps an entry into lines; an interval such as [0, 1) stays on one line."""
    text = re.sub(r"([\[(]-?[\w.]+), (-?[\w.]+[\])])", "\\1,\u00a0\\2", text)
    first, rest = " " * indent, " " * (indent + 2)
    wrap = textwrap.TextWrapper(WIDTH, first, rest, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in wrap.wrap(text)]


def main() -> int:
    """Runs the program: reports what differs, and writes it with `--write`. Returns 1 if something is wrong, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="fill in and update the arguments that the glossary knows")
    parser.add_argument(
        "--only", default="gradtx", metavar="MODULE", help="write, and list, in this part of the package"
    )
    parser.add_argument("--list", action="store_true", help=f"write {UNDOCUMENTED.name} anew")
    parser.add_argument("--missing", action="store_true", help="list the arguments without documentation")
    options = parser.parse_args()
    if options.write:
        write(options.only)
        _reload()
    if options.write or options.list:
        UNDOCUMENTED.write_text("".join(f"{name}\n" for name in undocumented()))
    for fn in callables() if options.missing else ():
        if fn.missing and fn.module.startswith(options.only):
            sys.stdout.write(f"{fn.name}: {', '.join(p.name for p in fn.missing)}\n")
    found = list(problems())
    sys.stdout.writelines(f"{problem}\n" for problem in found)
    fns = callables()
    total, missing = sum(len(fn.parameters) for fn in fns), sum(len(fn.missing) for fn in fns)
    sys.stdout.write(f"{total - missing} of {total} arguments are documented; {len(found)} problems\n")
    return 1 if found else 0


def _reload() -> None:
    """Reads the docstrings anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "gradtx"]:
        del sys.modules[name]
    globals()["gx"] = importlib.import_module("gradtx")


if __name__ == "__main__":
    sys.exit(main())
