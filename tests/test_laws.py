"""Runs the laws on the cases of gradtx: quick laws on all cases, costly laws on a random sample, drawn by name.

The sample consists of pairs of a costly law and a case. The quick run tests one pair in 200, and the heavy run one in
8; line searches take too long for the quick run. If the code of a constructor has changed since the last release
(`tests/released.py`), the quick run tests its first case with all laws. `python -m benchmarks.contract` tests all
pairs.
"""

import pytest

import gradtx as gx
from tests.drawn import is_drawn
from tests.laws import LAWS
from tests.laws.subject import Subject, judge, report
from tests.libraries import APART, GRADTX, NOT_ALIKE, OPTAX, its_rules
from tests.released import changed

CASES = GRADTX.cases()
QUICK, HEAVY = 200, 8


def holds(case, laws):
    verdicts = judge(Subject(case), laws)
    assert all(verdict.passed == verdict.total for verdict in verdicts), report(verdicts)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_quick_laws(case):
    holds(case, [law for law in LAWS if law.quick])


def costly():
    """Returns each case with the costly laws of the quick run, and with the costly laws of the heavy run."""
    laws = [law for law in LAWS if not law.quick]
    new = changed()
    for case in CASES:
        curved = getattr(gx, case.constructor).__module__.startswith("gradtx.curvature.")
        quick = [law for law in laws if is_drawn(f"{law}: {case}", QUICK) and not curved]
        if case.constructor in new:
            quick = laws
            new.discard(case.constructor)
        heavy = [law for law in laws if is_drawn(f"{case}: {law}", HEAVY) and law not in quick]
        if quick:
            yield pytest.param(case, quick, id=f"{case}-quick")
        if heavy:
            yield pytest.param(case, heavy, id=f"{case}-heavy", marks=pytest.mark.heavy)


@pytest.mark.parametrize(("case", "laws"), list(costly()))
def test_costly_laws(case, laws):
    holds(case, laws)


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
    """Every name in `unless` belongs to a law; other names would have no effect."""
    known = {law.unless for law in LAWS} | {"complex", "own steps"}
    assert {name for case in CASES for name in case.unless} <= known


@pytest.mark.heavy
def test_bad_calls_are_many():
    verdicts = [v for case in CASES for v in judge(Subject(case), [law for law in LAWS if law.number == 11])]
    assert sum(verdict.total for verdict in verdicts) >= 300
    assert sum(verdict.passed for verdict in verdicts) == sum(verdict.total for verdict in verdicts)
