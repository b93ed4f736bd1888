"""Applies the laws to all cases of gradtx and optax: the laws of `gradtx.testing`, and further laws of this folder.

`tests/test_laws.py` runs all laws on gradtx. `python -m benchmarks.contract` runs them on gradtx and on optax, and
prints both scores. The files here contain the laws that need the registry or optax: the laws of schedules, of
constructors' arguments and of parity with optax.
"""

from gradtx.testing.subject import LAWS as _OF_ANY
from tests.laws import bad_calls, collectives, parity, schedules
from tests.laws.subject import OWN as _OWN

LAWS = sorted([*_OF_ANY, *_OWN], key=lambda law: law.number)

__all__ = ["LAWS", "bad_calls", "collectives", "parity", "schedules"]
