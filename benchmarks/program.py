"""Counts the kernels, copies, branches, bytes and memory of a compiled step, which do not depend on a busy machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\((.*?)\)")
_OPERAND = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(
    r"(?:body|condition|to_apply|branch_computations|true_computation|false_computation)=(\{[^}]*\}|%?[\w.-]+)"
)
_SHAPE = re.compile(r"[a-z]+[0-9]*\[([0-9,]*)\]")
SMALL = 16
"""The entries of an array that counts as a scalar: a key, or the numbers of a few steps."""

_FREE = frozenset({"parameter", "tuple", "get-tuple-element", "constant", "bitcast", "after-all", "partition-id"})
_CONTROL = frozenset({"conditional", "while", "call", "async-start", "async-done"})


class Program(NamedTuple):
    """The counts that can be read from a compiled program."""

    kernels: int
    """Operations that read or write an array: fusions, reductions, products."""
    scalar_kernels: int
    """Operations on scalars alone, such as step counters and bias corrections."""
    copies: int
    """Copies of arrays that are not scalars."""
    branches: int
    """Conditionals."""
    bytes_accessed: int
    """What the operations read and write, by the compiler's cost analysis."""
    temporary_bytes: int
    """Memory that the program takes beside its arguments and results."""


def program(compiled: jax.stages.Compiled) -> Program:
    """Counts what a compiled function does."""
    found = list(_executed(compiled.as_text() or ""))
    work = [(opcode, n) for opcode, n in found if opcode not in _FREE | _CONTROL]
    cost: Any = compiled.cost_analysis() or {}
    memory: Any = compiled.memory_analysis()
    return Program(
        kernels=sum(n > SMALL and opcode != "copy" for opcode, n in work),
        scalar_kernels=sum(n <= SMALL for _, n in work),
        copies=sum(n > SMALL and opcode == "copy" for opcode, n in work),
        branches=sum(opcode == "conditional" for opcode, _ in found),
        bytes_accessed=int(cost.get("bytes accessed", 0)),
        temporary_bytes=memory.temp_size_in_bytes,
    )


def _executed(text: str) -> Iterator[tuple[str, int]]:
    """Yields each instruction that is not fused into another: its opcode, and the number of entries that it processes.

    These are the entries of its largest operand or result.
    """
    bodies: dict[str, list[tuple[str, int, list[str]]]] = {}
    entry, lines, sizes = "", [], {}
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            lines, sizes = [], {}
            bodies[start[2]] = lines
            entry = start[2] if start[1] else entry
        elif instruction := _INSTRUCTION.match(line):
            name, kind, opcode, operands = instruction.groups()
            sizes[name] = _entries(kind)
            names = _CALLED.findall(line) if opcode in _CONTROL else []
            dealt_with = max([sizes[name], *(sizes.get(x, 0) for x in _OPERAND.findall(operands))])
            lines.append((opcode, dealt_with, [x.strip(" %{}") for name in names for x in name.split(",")]))
    waiting = [entry]
    while waiting:
        for opcode, dealt_with, called in bodies.get(waiting.pop(), ()):
            yield opcode, dealt_with
            waiting += [name for name in called if name in bodies]


def _entries(kind: str) -> int:
    """Returns the number of entries of the largest array in a type."""
    return max((math.prod(map(int, filter(None, shape.split(",")))) for shape in _SHAPE.findall(kind)), default=0)
