"""What a law judges, and how: a subject is a case of one library, a law a function that raises where it is broken."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import jax

from tests.cases import Case, draw, stack, trajectory
from tests.libraries import APART, GRADTX, Library, its_rules

PARAMS = draw(0)
GRADS = stack([draw(i + 1, scale=0.3) for i in range(3)])


class NotApplicableError(Exception):
    """A law has nothing to say about a subject; the text says why."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A case of a library, with what several laws compute of it."""

    case: Case
    library: Library = GRADTX

    def make(self) -> Any:
        return self.library.make(self.case.expression)

    @functools.cached_property
    def tx(self) -> Any:
        return self.make()

    @functools.cached_property
    def run(self) -> Callable[[Any, Any], Any]:
        """Updates and states of a few steps from the parameters and the gradients of all steps, compiled."""
        return jax.jit(lambda params, grads: trajectory(self.tx, params, grads))

    @functools.cached_property
    def expected(self) -> Any:
        """What `run` gives for `PARAMS` and `GRADS`."""
        return self.run(PARAMS, GRADS)

    @functools.cached_property
    def shapes(self) -> dict[tuple[str, str], Any]:
        """The shapes of a step, by the dtypes of parameters and gradients: two laws look at them."""
        return {}

    def is_of(self, kind: str) -> bool:
        return (kind == "schedule") != hasattr(self.tx, "update")


Finding = tuple[str, str | None]
"""What was looked at, and what is wrong with it, or None."""


@dataclasses.dataclass(frozen=True)
class Law:
    """A promise. `check` raises where a subject breaks it, or returns the findings of many small questions."""

    number: int
    name: str
    check: Callable[[Subject], Iterable[Finding] | None]
    about: str = "transformation"
    """Of what it is: of transformations or of schedules."""
    of_values: bool = False
    """Whether it speaks of values and of hyperparameters as data, which only gradtx has."""
    of_trees: bool = True
    """Whether it runs the method on the trees of the laws."""
    unless: str = ""
    """By what name a case says that it does not keep this law (`Case.unless`)."""
    quick: bool = False
    """Whether it takes no more than a blink."""

    def __str__(self) -> str:
        return f"{self.number} {self.name}"

    @property
    def text(self) -> str:
        return inspect.getdoc(self.check) or ""


LAWS: list[Law] = []


def law(number: int, name: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Lists a function as a law."""

    def listed(check: Callable[..., Any]) -> Callable[..., Any]:
        LAWS.append(Law(number, name, check, **options))
        return check

    return listed


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a subject stands before a law: of `total` questions, `passed` were answered right."""

    law: Law
    passed: int
    total: int
    problem: str = ""
    """The first failure, or why the law does not apply."""
    error: BaseException | None = None


def judge(subject: Subject, laws: Iterable[Law]) -> list[Verdict]:
    """The verdicts of those laws that speak of such a subject."""
    with its_rules(subject.library):
        return [_verdict(subject, law) for law in laws if subject.is_of(law.about)]


def _verdict(subject: Subject, law: Law) -> Verdict:
    if law.of_values and not subject.library.values:
        return Verdict(law, 0, 0, f"{subject.library} has no such notion")
    if law.of_trees and subject.case.constructor in APART:
        return Verdict(law, 0, 0, APART[subject.case.constructor])
    if law.unless and law.unless in subject.case.unless:
        return Verdict(law, 0, 0, subject.case.unless[law.unless])
    try:
        findings = list(law.check(subject) or [("", None)])
    except NotApplicableError as reason:
        return Verdict(law, 0, 0, str(reason))
    except Exception as error:  # whatever a broken promise looks like: the verdict has it
        return Verdict(law, 0, 1, _first_line(error), error)
    wrong = [f"{what}: {problem}" for what, problem in findings if problem is not None]
    return Verdict(law, len(findings) - len(wrong), len(findings), wrong[0] if wrong else "")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:200]}"


def report(verdicts: Iterable[Verdict]) -> str:
    """What the failures say, with where they come from."""
    texts = []
    for verdict in verdicts:
        if verdict.passed < verdict.total:
            trace = "".join(traceback.format_exception(verdict.error)) if verdict.error else verdict.problem
            texts.append(f"law {verdict.law}: {verdict.law.text}\n{trace}")
    return "\n\n".join(texts)
