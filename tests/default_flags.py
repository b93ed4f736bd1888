"""Runs a random sample of all laws with JAX's default compiler flags, which users have.

    GRADTX_TESTS_FLAGS=default python -m pytest -n 2 tests/default_flags.py

The other tests compile at XLA's optimization level 0, which no user runs. Pairs of a law and a case are sampled by a
hash of their names, so that the sample stays the same until a name changes. Every law is in the sample.
"""

import pytest

from tests import environment
from tests.drawn import is_drawn
from tests.laws import LAWS
from tests.laws.subject import Subject, judge, report
from tests.libraries import GRADTX

ONE_IN = 80


def drawn():
    subjects = [Subject(case) for case in GRADTX.cases()]
    for law in LAWS:
        asked = {f"{law}: {x.expression}": x for x in subjects if x.is_of(law.about)}
        names = [name for name in asked if is_drawn(name, ONE_IN)] or list(asked)[:1]
        for name in names:
            yield pytest.param(law, asked[name], id=name)


@pytest.mark.parametrize(("law", "subject"), list(drawn()))
def test_laws_with_default_flags(law, subject):
    assert environment.DEFAULT_FLAGS, "run it with GRADTX_TESTS_FLAGS=default"
    verdicts = judge(subject, [law])
    assert all(verdict.passed == verdict.total for verdict in verdicts), report(verdicts)
