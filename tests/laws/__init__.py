"""What gradtx promises, as functions: each law judges any case of any library, and `tests/test_laws.py` all of gradtx.

`python -m benchmarks.contract` runs them over gradtx and over optax, and prints both scores. A law is a function with
`@law` above it, in the file of its theme; its docstring says what it promises.
"""

from tests.laws import (
    accounted,
    bad_calls,
    derivatives,
    donation,
    finite,
    hyperparameters,
    parity,
    schedules,
    scope,
    state,
    transforms,
    trees,
    value,
)
from tests.laws.subject import LAWS as _LISTED

LAWS = sorted(_LISTED, key=lambda law: law.number)

__all__ = [
    "accounted",
    "LAWS",
    "bad_calls",
    "derivatives",
    "donation",
    "finite",
    "hyperparameters",
    "parity",
    "schedules",
    "scope",
    "state",
    "transforms",
    "trees",
    "value",
]
