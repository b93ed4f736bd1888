"""The laws over any case of any library: those of `gradtx.testing`, and those that need the registry or optax.

`tests/test_laws.py` asks all of them about gradtx. `python -m benchmarks.contract` runs them over gradtx and over
optax, and prints both scores. The files here have the laws of schedules, of constructors'
arguments and of parity with optax.
"""

from gradtx.testing.subject import LAWS as _OF_ANY
from tests.laws import bad_calls, collectives, parity, schedules
from tests.laws.subject import OWN as _OWN

LAWS = sorted([*_OF_ANY, *_OWN], key=lambda law: law.number)

__all__ = ["LAWS", "bad_calls", "collectives", "parity", "schedules"]
