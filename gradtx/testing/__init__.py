"""Checks transformations, also your own, against gradtx's contract.

    report = gx.testing.check(tx)
    print(report)
    report.raise_if_broken()

The contract is a list of laws. Each law is a function decorated with `@law`, in the file of its topic; the docstring of
the function says what the law promises.
"""

# ruff: noqa: I001  (in the order in which a report lists them)

from gradtx.testing import value as value
from gradtx.testing import hyperparameters as hyperparameters
from gradtx.testing import state as state
from gradtx.testing import finite as finite
from gradtx.testing import derivatives as derivatives
from gradtx.testing import donation as donation
from gradtx.testing import transforms as transforms
from gradtx.testing import mesh as mesh
from gradtx.testing import scope as scope
from gradtx.testing import trees as trees
from gradtx.testing import bad_calls as bad_calls
from gradtx.testing import accounted as accounted
from gradtx.testing import stored as stored
from gradtx.testing import branches as branches
from gradtx.testing import eager as eager
from gradtx.testing.contract import EXCEPTIONS, check
from gradtx.testing.report import Report
from gradtx.testing.subject import Verdict

__all__ = ["EXCEPTIONS", "Report", "Verdict", "check"]
