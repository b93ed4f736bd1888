"""Counts the unconstrained problems of the CUTEst collection that solvers of gradtx, optax, optimistix and SciPy solve.

    pip install -e '.[solvers]'
    python -m benchmarks.solvers
    python -m benchmarks.solvers --problems ROSENBR HELIX --methods "gradtx lbfgs" "optax lbfgs"

The problems are the problems of sif2jax with at most 100 variables, from their first starting points, in float64, with
at most 1,000 iterations and the tightest tolerances that a solver accepts. A method solves a problem if its value is
within 1e-6 of the best value that any method in the run found; the tolerance is relative, or absolute if the best value
is below 1. The value of a method is the value at the best point that it evaluated. The optima that the collection
states are not used, because some of them are wrong. A run takes about an hour on two cores; `--json` saves results
during the run, and continues from saved results.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimistix
import scipy.optimize
from jax import lax
from jax.flatten_util import ravel_pytree
from tabulate import tabulate

import gradtx as gx

ENOUGH = 1e-6
MAXITER = 1000
TOL = 1e-10

Solver = Callable[[Callable[..., Any], Any], Any]


def with_gradtx(tx: Any) -> Solver:
    return lambda fun, x0: gx.minimize(fun, x0, tx, tol=TOL, maxiter=MAXITER).params


def with_optax(tx: Any) -> Solver:
    """Runs the loop of optax's own examples, and keeps the best point."""

    def solve(fun: Any, x0: Any) -> Any:
        look = optax.value_and_grad_from_state(fun)

        def step(carry: Any) -> Any:
            x, state, _, best, least, count = carry
            value, grad = look(x, state=state)
            best, least = jax.tree.map(lambda a, b: jnp.where(value < least, a, b), (x, value), (best, least))
            updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=fun)
            return optax.apply_updates(x, updates), state, jnp.linalg.norm(grad), best, least, count + 1

        def go_on(carry: Any) -> Any:
            return (carry[2] > TOL) & (carry[5] < MAXITER)

        inf = jnp.asarray(jnp.inf)
        x, *_, best, least, _ = lax.while_loop(go_on, step, (x0, tx.init(x0), inf, x0, fun(x0), 0))
        return jnp.where(fun(x) < least, x, best)

    return jax.jit(solve, static_argnums=0)


def with_optimistix(solver: Any) -> Solver:
    def solve(fun: Any, x0: Any) -> Any:
        return optimistix.minimise(lambda x, _: fun(x), solver, x0, max_steps=MAXITER, throw=False).value

    return jax.jit(solve, static_argnums=0)


def with_scipy(method: str, **options: Any) -> Solver:
    def solve(fun: Any, x0: Any) -> Any:
        best = (np.inf, np.asarray(x0))
        look, hessian = jax.jit(jax.value_and_grad(fun)), jax.jit(jax.hessian(fun))

        def seen(x: Any) -> tuple[float, np.ndarray]:
            nonlocal best
            value, grad = jax.device_get(look(x))
            best = min(best, (float(value), x.copy()), key=lambda pair: pair[0])
            return float(value), np.asarray(grad)

        more = {"hess": lambda x: np.asarray(hessian(x))} if method == "trust-exact" else {}
        # SciPy raises where a Hessian or a value is not finite; the best point until then counts.
        try:
            scipy.optimize.minimize(
                seen, np.asarray(x0), jac=True, method=method, options={"maxiter": MAXITER, **options}, **more
            )
        except (ValueError, np.linalg.LinAlgError, OverflowError) as error:
            print(f"  {method}: {error}", file=sys.stderr)
        return best[1]

    return solve


METHODS: dict[str, Solver] = {
    "gradtx lbfgs": with_gradtx(gx.lbfgs()),
    "gradtx bfgs": with_gradtx(gx.bfgs()),
    "gradtx nonlinear_cg": with_gradtx(gx.nonlinear_cg()),
    "gradtx newton": with_gradtx(
        gx.newton(hessian="absolute", linesearch=gx.scale_by_zoom_linesearch(20, initial_guess_strategy="one"))
    ),
    "gradtx trust_region": with_gradtx(gx.trust_region_newton()),
    "gradtx trust_region exact": with_gradtx(gx.trust_region_newton(subproblem="exact")),
    "optax lbfgs": with_optax(optax.lbfgs()),
    "optimistix BFGS": with_optimistix(optimistix.BFGS(rtol=TOL, atol=TOL)),
    "scipy BFGS": with_scipy("BFGS", gtol=TOL),
    "scipy L-BFGS-B": with_scipy("L-BFGS-B", gtol=TOL, ftol=0.0),
    "scipy trust-exact": with_scipy("trust-exact", gtol=TOL),
}


def problems(largest: int = 100) -> dict[str, Any]:
    """Returns the problems with at most `largest` variables, by name."""
    import sif2jax  # it takes minutes to import

    return {p.name: p for p in sif2jax.unconstrained_minimisation_problems if p.num_variables() <= largest}


def values(problem: Any, methods: list[str]) -> dict[str, list[float]]:
    """Returns for every method the value that it reached, and the time in seconds, including compilation."""
    start, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), problem.y0))

    def fun(x: Any) -> Any:
        return jnp.asarray(problem.objective(unravel(x), problem.args), jnp.float64).reshape(())

    found = {}
    for name in methods:
        before = time.perf_counter()
        x = jax.block_until_ready(METHODS[name](fun, start))
        found[name] = [float(fun(jnp.asarray(x))), time.perf_counter() - before]
    jax.clear_caches()
    return found


def errors(found: dict[str, list[float]]) -> dict[str, float]:
    """Returns the gap of every method to the run's best value: relative, or absolute if the best value is below 1."""
    best = min((value for value, _ in found.values() if np.isfinite(value)), default=np.nan)
    return {
        name: (value - best) / max(1.0, abs(best)) if np.isfinite(value) else np.inf
        for name, (value, _) in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How many problems of CUTEst each solver solves.")
    parser.add_argument("--problems", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--json", type=pathlib.Path, help="where to keep the values; what is there is not run again")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    kept = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    chosen = problems()
    for name in arguments.problems or chosen:
        known = kept.setdefault(name, {})
        known.update(values(chosen[name], [m for m in arguments.methods if m not in known]))
        print(name, {m: f"{known[m][0]:.9g}" for m in arguments.methods}, flush=True, file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps(kept, indent=1))

    table = {name: errors(kept[name]) for name in arguments.problems or chosen}
    rows = [[name, *(error[m] for m in arguments.methods)] for name, error in table.items()]
    print(tabulate(rows, headers=["error of", *arguments.methods], tablefmt="github", floatfmt=".0e"))
    solved = [
        {
            "method": m,
            "solved": sum(error[m] <= ENOUGH for error in table.values()),
            "of": len(table),
            "seconds": sum(kept[name][m][1] for name in table),
        }
        for m in arguments.methods
    ]
    print()
    print(tabulate(solved, headers="keys", tablefmt="github", floatfmt=".0f"))


if __name__ == "__main__":
    main()
