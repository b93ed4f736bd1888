"""Every law over every case of gradtx: quick ones over all, costly ones over a sample, and over all when `heavy`."""

import pytest

import gradtx as gx
from tests.laws import LAWS
from tests.laws.subject import Subject, judge, report
from tests.libraries import APART, GRADTX, NOT_ALIKE, OPTAX, its_rules

CASES = GRADTX.cases()
SAMPLE = 16  # of every so many cases one meets the costly laws in the quick run; searches take too long for it


@pytest.mark.parametrize("case", CASES, ids=str)
def test_quick_laws(case):
    verdicts = judge(Subject(case), [law for law in LAWS if law.quick])
    assert all(verdict.passed == verdict.total for verdict in verdicts), report(verdicts)


def costly():
    curved = [getattr(gx, case.constructor).__module__.startswith("gradtx.curvature.") for case in CASES]
    for i, case in enumerate(CASES):
        yield pytest.param(case, id=str(case), marks=[] if i % SAMPLE == 0 and not curved[i] else pytest.mark.heavy)


@pytest.mark.parametrize("case", list(costly()))
def test_costly_laws(case):
    verdicts = judge(Subject(case), [law for law in LAWS if not law.quick])
    assert all(verdict.passed == verdict.total for verdict in verdicts), report(verdicts)


@pytest.mark.parametrize("library", [GRADTX, OPTAX], ids=str)
def test_every_constructor_has_a_case(library):
    with its_rules(library):
        cases = library.cases()
    named = " ".join(case.expression for case in cases)
    for name in library.constructors():
        assert name + "(" in named or (not library.values and name in NOT_ALIKE), name


def test_every_case_without_a_reference_and_every_exception_says_why():
    for case in CASES:
        assert case.optax == "" or case.why
        assert all(case.unless.values())
    assert all(APART.values())


def test_every_exception_is_from_a_law():
    """A name in `unless` that no law knows would except nothing."""
    known = {law.unless for law in LAWS} | {"derivatives", "complex", "own steps"}
    assert {name for case in CASES for name in case.unless} <= known


def test_bad_calls_are_many():
    verdicts = [v for case in CASES for v in judge(Subject(case), [law for law in LAWS if law.number == 11])]
    assert sum(verdict.total for verdict in verdicts) >= 300
    assert sum(verdict.passed for verdict in verdicts) == sum(verdict.total for verdict in verdicts)
