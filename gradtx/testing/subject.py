"""Defines laws and their subjects: a law is a function that raises an error if its subject breaks the law."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax

from gradtx.core.transformation import identity
from gradtx.testing.calls import trajectory
from gradtx.testing.data import draw, stack

__all__ = ["LAWS", "Finding", "Law", "NotApplicableError", "Subject", "Verdict", "explained", "judge", "law"]


class NotApplicableError(Exception):
    """Raised by a law that does not apply to its subject; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A transformation (or a schedule) to check, with the information and the results that the laws need."""

    make: Callable[[], Any]
    """Makes the transformation."""
    expression: str
    """The transformation as text, which shows its arguments, such as a dtype or a mask."""
    name: str
    """The name of the class, or of the function that makes the transformation."""
    unless: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The exceptions by name, each with the reason why the method cannot keep the law."""
    names: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The names that the repr needs when it is evaluated, in addition to the names of gradtx."""
    is_value: bool = True
    """Whether the transformation is an immutable pytree whose hyperparameters are leaves, as in gradtx."""
    own_trees: str = ""
    """Why the transformation cannot run on the trees of the laws; empty if it can."""
    accepted: Collection[str] = ()
    """The bad calls of law 11 that the transformation may accept."""

    @functools.cached_property
    def tx(self) -> Any:
        return self.make()

    @functools.cached_property
    def params(self) -> Any:
        with jax.ensure_compile_time_eval():  # concrete arrays, even if a law reads this while it traces
            return draw(0)

    @functools.cached_property
    def grads(self) -> Any:
        """The gradients of three steps, stacked."""
        with jax.ensure_compile_time_eval():
            return stack([draw(i + 1, scale=0.3) for i in range(3)])

    @functools.cached_property
    def run(self) -> Callable[[Any, Any], Any]:
        """A compiled function from the parameters and the stacked gradients to the updates and states of all steps."""
        return jax.jit(lambda params, grads: trajectory(self.tx, params, grads))

    @functools.cached_property
    def expected(self) -> Any:
        """The result of `run` for `params` and `grads`."""
        return self.run(self.params, self.grads)

    @functools.cached_property
    def memory(self) -> dict[Any, Any]:
        """A cache for results that several laws use, by names that the laws choose."""
        return {}

    @property
    def stated(self) -> Any:
        """The transformation whose base classes state the scope, or None."""
        return self.tx

    @property
    def reads_no_trees(self) -> str:
        """Why the transformation never reads its trees, and so raises no errors about them; empty if it reads them."""
        if isinstance(self.tx, identity):
            return "tx reads no tree"
        return "tx calls a function of the user's" if getattr(self.tx, "foreign", False) else ""

    def is_of(self, kind: str) -> bool:
        return (kind == "schedule") != hasattr(self.tx, "update")


Finding = tuple[str, str | None]
"""A finding: what was checked, and what is wrong with it, or None."""


@dataclasses.dataclass(frozen=True)
class Law:
    """A law: `check` raises an error if the subject breaks it, or returns a finding for each of many small checks."""

    number: int
    name: str
    check: Callable[[Any], Iterable[Finding] | None]
    about: str = "transformation"
    """What the law is about: 'transformation' or 'schedule'."""
    of_values: bool = False
    """Whether the law is about equality, repr or hyperparameters as leaves, which other libraries do not offer."""
    of_trees: bool = True
    """Whether the law runs the transformation on the trees of the laws."""
    unless: str = ""
    """The name of the exception (key of `Subject.unless`) for transformations that cannot keep this law."""
    quick: bool = False
    """Whether it compiles almost nothing."""

    def __str__(self) -> str:
        return f"{self.number} {self.name}"

    @property
    def text(self) -> str:
        return inspect.getdoc(self.check) or ""


LAWS: list[Law] = []
"""All laws that need only gradtx (not optax, for example). `gradtx.testing` sorts them by number."""


def law(number: int, name: str, *, into: list[Law] = LAWS, **options: Any) -> Callable[[Any], Any]:
    """Registers the decorated function as a law."""

    def listed(check: Callable[..., Any]) -> Callable[..., Any]:
        into.append(Law(number, name, check, **options))
        return check

    return listed


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of one law for a transformation.

    Args:
      law: The law.
      passed: Number of checks that passed.
      total: Number of checks that ran.
      problem: The first failure, or why the law does not apply; empty if neither.
      error: The error that a broken law raised; None without one.
    """

    law: Law
    passed: int
    """Number of checks that passed, out of `total`."""
    total: int
    """Number of checks that the law ran: 0 if the law does not apply."""
    problem: str = ""
    """The first failure, or why the law does not apply."""
    error: BaseException | None = None

    @property
    def number(self) -> int:
        """The number of the law."""
        return self.law.number

    @property
    def name(self) -> str:
        """The name of the law."""
        return self.law.name

    @property
    def promise(self) -> str:
        """What the law promises: the first paragraph of its docstring."""
        return self.law.text.partition("\n\n")[0]

    @property
    def outcome(self) -> str:
        """`kept`, `broken` or `does not apply`."""
        if not self.total:
            return "does not apply"
        return "kept" if self.passed == self.total else "broken"


def judge(subject: Subject, laws: Iterable[Law]) -> list[Verdict]:
    """Runs the laws on a subject, and returns their verdicts."""
    return [_verdict(subject, law) for law in laws if subject.is_of(law.about)]


def _verdict(subject: Subject, law: Law) -> Verdict:
    if law.of_values and not subject.is_value:
        return Verdict(law, 0, 0, "its library has no such notion")
    if law.of_trees and subject.own_trees:
        return Verdict(law, 0, 0, subject.own_trees)
    if law.unless and law.unless in subject.unless:
        return Verdict(law, 0, 0, subject.unless[law.unless])
    try:
        findings = list(law.check(subject) or [("", None)])
    except NotApplicableError as reason:
        return Verdict(law, 0, 0, str(reason))
    except Exception as error:  # any error breaks the law, and is kept in the verdict
        return Verdict(law, 0, 1, _first_line(error), error)
    wrong = [f"{what}: {problem}" for what, problem in findings if problem is not None]
    return Verdict(law, len(findings) - len(wrong), len(findings), wrong[0] if wrong else "")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:200]}"


def explained(verdicts: Iterable[Verdict]) -> str:
    """Returns a text about the broken laws: what each law promises, and the traceback of the failure."""
    texts: list[str] = []
    for verdict in verdicts:
        if verdict.passed < verdict.total:
            trace = "".join(traceback.format_exception(verdict.error)) if verdict.error else verdict.problem
            texts.append(f"law {verdict.law}: {verdict.law.text}\n{trace}")
    return "\n\n".join(texts)
