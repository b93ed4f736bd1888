"""What a law judges, and how: a law is a function of a subject that raises if the subject breaks the law."""

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
    """Raised if a law does not apply to a subject; the text says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A transformation (or a schedule), with the answers and results that the laws need about it."""

    make: Callable[[], Any]
    """Makes the transformation."""
    expression: str
    """The transformation as text, which says what was given: a dtype, a mask, a clip."""
    name: str
    """The name of the class or of the function that makes it."""
    unless: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The exceptions: the laws that this method cannot keep, each with the reason."""
    names: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The names, in addition to gradtx's, that its repr needs to evaluate."""
    is_value: bool = True
    """Whether it is a value whose hyperparameters are data, as every transformation of gradtx is."""
    own_trees: str = ""
    """Why the trees of the laws do not suit it; empty if they do."""
    accepted: Collection[str] = ()
    """The bad calls of law 11 that it may accept."""

    @functools.cached_property
    def tx(self) -> Any:
        return self.make()

    @functools.cached_property
    def params(self) -> Any:
        with jax.ensure_compile_time_eval():  # numbers, even where a law asks for them while it traces
            return draw(0)

    @functools.cached_property
    def grads(self) -> Any:
        """The gradients of three steps, stacked."""
        with jax.ensure_compile_time_eval():
            return stack([draw(i + 1, scale=0.3) for i in range(3)])

    @functools.cached_property
    def run(self) -> Callable[[Any, Any], Any]:
        """Returns updates and states of a few compiled steps, from the parameters and the gradients of all steps."""
        return jax.jit(lambda params, grads: trajectory(self.tx, params, grads))

    @functools.cached_property
    def expected(self) -> Any:
        """The result of `run` for `params` and `grads`."""
        return self.run(self.params, self.grads)

    @functools.cached_property
    def memory(self) -> dict[Any, Any]:
        """What more than one law computes of it, under a name of the laws' own."""
        return {}

    @property
    def stated(self) -> Any:
        """The transformation whose base classes state the scope, or None."""
        return self.tx

    @property
    def reads_no_trees(self) -> str:
        """Why it reads no tree, and so raises for none; empty if it reads them."""
        if isinstance(self.tx, identity):
            return "it reads no tree"
        return "the function is the user's" if getattr(self.tx, "foreign", False) else ""

    def is_of(self, kind: str) -> bool:
        return (kind == "schedule") != hasattr(self.tx, "update")


Finding = tuple[str, str | None]
"""What was checked, and what is wrong with it, or None."""


@dataclasses.dataclass(frozen=True)
class Law:
    """A promise. `check` raises if a subject breaks it, or returns the findings of many small questions."""

    number: int
    name: str
    check: Callable[[Any], Iterable[Finding] | None]
    about: str = "transformation"
    """What it judges: transformations or schedules."""
    of_values: bool = False
    """Whether it is about values and hyperparameters as data, which only gradtx has."""
    of_trees: bool = True
    """Whether it runs the method on the trees of the laws."""
    unless: str = ""
    """The name of the exception by which a method says that it cannot keep this law (`Subject.unless`)."""
    quick: bool = False
    """Whether it compiles almost nothing."""

    def __str__(self) -> str:
        return f"{self.number} {self.name}"

    @property
    def text(self) -> str:
        return inspect.getdoc(self.check) or ""


LAWS: list[Law] = []
"""Every law that needs nothing but gradtx. `gradtx.testing` sorts them by number."""


def law(number: int, name: str, *, into: list[Law] = LAWS, **options: Any) -> Callable[[Any], Any]:
    """Lists a function as a law."""

    def listed(check: Callable[..., Any]) -> Callable[..., Any]:
        into.append(Law(number, name, check, **options))
        return check

    return listed


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of one law for a transformation.

    Args:
      law: The law.
      passed: Number of questions that were answered as promised.
      total: Number of questions that were asked.
      problem: The first failure, or why the law does not apply; empty if neither.
      error: The error that a broken law raised; None without one.
    """

    law: Law
    passed: int
    """Number of the `total` questions that were answered as promised."""
    total: int
    """Number of questions that the law asked: 0 if it does not apply."""
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
        """What the law promises."""
        return self.law.text.partition("\n\n")[0]

    @property
    def outcome(self) -> str:
        """`kept`, `broken` or `does not apply`."""
        if not self.total:
            return "does not apply"
        return "kept" if self.passed == self.total else "broken"


def judge(subject: Subject, laws: Iterable[Law]) -> list[Verdict]:
    """Returns the verdicts of the laws about such a subject."""
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
    except Exception as error:  # any error breaks the promise, and is kept in the verdict
        return Verdict(law, 0, 1, _first_line(error), error)
    wrong = [f"{what}: {problem}" for what, problem in findings if problem is not None]
    return Verdict(law, len(findings) - len(wrong), len(findings), wrong[0] if wrong else "")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:200]}"


def explained(verdicts: Iterable[Verdict]) -> str:
    """Describes the broken laws: what each promises, and the traceback of the failure."""
    texts: list[str] = []
    for verdict in verdicts:
        if verdict.passed < verdict.total:
            trace = "".join(traceback.format_exception(verdict.error)) if verdict.error else verdict.problem
            texts.append(f"law {verdict.law}: {verdict.law.text}\n{trace}")
    return "\n\n".join(texts)
