"""Counts the correct digits of `least_squares` on the 27 nonlinear regressions of NIST StRD, from both starting points.

    python -m benchmarks.nist
    python -m benchmarks.nist --method gauss_newton --problems Misra1a Rat43

The solver runs in float64 with the default tolerance and number of steps. The number of digits is -log10 of the
relative error of the worst parameter, at most 11, because NIST certifies 11 digits. A start counts as solved with at
least 6 digits. The column `sum` has the digits of the residual sum of squares; for Lanczos1 this sum consists of
rounding errors, so no digits can be expected.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import jax
from tabulate import tabulate

from gradtx.curvature.least_squares import least_squares
from gradtx.curvature.result import Status
from tests.nist import PROBLEMS

ENOUGH = 6


def rows(names: Sequence[str], **options: Any) -> list[dict[str, Any]]:
    """Returns one row of the table for each start."""
    found = []
    for name in names:
        problem = PROBLEMS[name]
        solve = jax.vmap(lambda start, problem=problem: least_squares(problem.residual, start, **options))
        results = jax.device_get(solve(jax.numpy.asarray(problem.starts)))
        for i in (0, 1):
            found.append(
                {
                    "problem": name,
                    "level": problem.level,
                    "start": i + 1,
                    "digits": problem.digits(results.params[i]),
                    "sum": problem.digits_of_sum(results.value[i]),
                    "steps": int(results.steps[i]),
                    "status": Status(int(results.status[i])).name,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Digits of least_squares on the problems of NIST StRD.")
    parser.add_argument("--method", default="levenberg_marquardt", choices=["levenberg_marquardt", "gauss_newton"])
    parser.add_argument("--straight", action="store_true", help="no geodesic acceleration")
    parser.add_argument("--maxiter", type=int, default=1000)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS), metavar="NAME")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    table = rows(
        arguments.problems, method=arguments.method, maxiter=arguments.maxiter, geodesic=not arguments.straight
    )
    print(tabulate(table, headers="keys", tablefmt="github", floatfmt=".1f"))
    solved = sum(row["digits"] >= ENOUGH for row in table)
    print(f"\n{solved} of {len(table)} starts to {ENOUGH} digits, {sum(row['steps'] for row in table)} steps in all")


if __name__ == "__main__":
    main()
