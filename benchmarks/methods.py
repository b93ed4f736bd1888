"""The methods that gradtx and optax both have: what `benchmarks.sweep` and `benchmarks.floor` measure.

The methods are found like the cases of the contract: in the public names of both libraries. Both libraries evaluate the
same expression for a method. This file has the expressions of methods whose case only suits the small trees of the
tests, or whose names or arguments differ between the libraries.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx
from benchmarks.sampling import LIBRARIES as SPACES
from benchmarks.sampling import jitted_step

_flags = os.environ.get("XLA_FLAGS", "")
from tests.cases import SCHEDULES  # noqa: E402
from tests.libraries import GRADTX, LIBRARIES, OPTAX, Library, its_rules  # noqa: E402

NUMBERS = {"gradtx": gradtx.WeightDimensionNumbers, "optax": optax.contrib.MuonDimensionNumbers}


GROUPS = "{'a': adam(1e-3), 'b': sgd(1e-2, momentum=0.9)}, groups"

EXPRESSIONS: dict[str, str | tuple[str, str]] = {
    "accumulate": ("accumulate(adam(1e-3), 4)", "MultiSteps(adam(1e-3), 4).gradient_transformation()"),
    "adafactor": "adafactor(1e-3)",
    "chain": "chain(clip_by_global_norm(1.0), adamw(1e-3))",
    "freeze": "freeze(vectors)",
    "galore": "galore(1e-3, rank=8)",
    "madgrad": "madgrad(1e-3)",
    "masked": "masked(adam(1e-3), vectors)",
    "muon": "muon(1e-3, muon_weight_dimension_numbers=matrices)",
    "named_chain": "named_chain(('clip', clip_by_global_norm(1.0)), ('sgd', sgd(1e-2)))",
    "partition": f"partition({GROUPS})",
    "scale_by_distance_over_gradients": "scale_by_distance_over_gradients()",
    "scale_by_factored_rms": "scale_by_factored_rms()",
    "scale_by_galore": "scale_by_galore(rank=8)",
    "scale_by_madgrad": "scale_by_madgrad(1e-3)",
    "selective_transform": "selective_transform(adam(1e-3), freeze_mask=vectors)",
    "snapshot": "snapshot('norm', tree_norm)",
}
"""Where the case of the tests is for other trees, or the libraries' calls differ: gradtx's and optax's."""

MORE = {
    "adamw": "adamw(1e-3)",
    "adamw of mu_dtype": "adamw(1e-3, mu_dtype='bfloat16')",
    "apply_if_finite(adamw)": "apply_if_finite(adamw(1e-3), 3)",
    "rmsprop of momentum": "rmsprop(1e-3, momentum=0.9)",
    "centered rmsprop": "rmsprop(1e-3, centered=True)",
    "sgd of momentum": "sgd(1e-2, momentum=0.9)",
    "sgd of Nesterov": "sgd(1e-2, momentum=0.9, nesterov=True)",
    "sgd of a schedule": "sgd(cosine_decay_schedule(1e-2, 100))",
    "masked decay": "adamw(1e-3, mask=vectors)",
}
"""Further settings that people use every day."""

VALUED = ("polyak_sgd", "momo", "momo_adam", "reduce_on_plateau")
"""Methods that read the loss."""

APART = {
    "measure_with_ema": "a part of monitor: it returns a number in place of updates",
    "differentially_private_aggregate": "gradients have an axis of examples",
    "dpsgd": "gradients have an axis of examples",
    "sam": "optax's is called without a value and with gradients in turns",
    "scale_by_muon": "optax's takes no leaf that is not a matrix; muon has the rule",
    "scale_by_polyak": "polyak_sgd is the same rule",
}
"""What both libraries have and the sweep leaves out, with the reason."""


def as_users_run() -> None:
    """Sets JAX up as users have it, before its first computation: the tests want quick compilation, and float64."""
    os.environ["XLA_FLAGS"] = _flags
    jax.config.update("jax_enable_x64", False)
    jax.config.update("jax_numpy_rank_promotion", "allow")
    jax.config.update("jax_enable_compilation_cache", False)


@dataclasses.dataclass(frozen=True)
class Method:
    """A method that both libraries have."""

    name: str
    expressions: dict[str, str]
    """By library."""

    def make(self, library: str, params: Any) -> Any:
        """Evaluates a library's expression to a transformation, for parameters of these shapes."""
        its, numbers = LIBRARIES[library], NUMBERS[library]
        names = {
            "vectors": jax.tree.map(lambda p: p.ndim < 2, params),
            "groups": jax.tree.map(lambda p: "ba"[p.ndim >= 2], params),
            "matrices": jax.tree.map(lambda p: numbers() if p.ndim == 2 else None, params),
        }
        made = eval(self.expressions[library], {**its.names, **names})
        return made if its.values else optax.with_extra_args_support(made)

    def step(self, library: str, params: Any) -> Any:
        """Returns the jitted function that is measured: the optimizer's part of a training step."""
        return jitted_step(SPACES[library], self.make(library, params), self.extra)

    def extra(self, params: Any, grads: Any) -> dict[str, Any]:
        """Returns the extra arguments of `update` that the method needs."""
        if "linesearch" in self.name:
            return {"value": bowl(params), "grad": grads, "value_fn": bowl}
        return {"value": jnp.float32(1.0)} if self.name in VALUED else {}


def bowl(params: Any) -> Any:
    """Returns a loss for line searches: a quadratic function of the parameters."""
    return sum(jnp.vdot(p, p) for p in jax.tree.leaves(params)) / 2


def shared() -> dict[str, Method]:
    """Returns every constructor of both libraries by name, with one set of arguments, and a few further settings."""
    theirs = _expressions(OPTAX)
    ours = _expressions(GRADTX)
    found = {name: (ours[name], theirs[name]) for name in ours if name in theirs and name not in APART}
    for name, given in {**EXPRESSIONS, **MORE}.items():
        found[name] = given if isinstance(given, tuple) else (given, given)
    return {name: Method(name, {"gradtx": a, "optax": b}) for name, (a, b) in sorted(found.items())}


def _expressions(library: Library) -> dict[str, str]:
    """Returns the first case of each constructor of transformations."""
    schedules = {case.constructor for case in SCHEDULES}
    with its_rules(library):
        cases = library.cases()
    found: dict[str, str] = {}
    for case in cases:
        if case.constructor not in schedules:
            found.setdefault(case.constructor, case.expression)
    return found
