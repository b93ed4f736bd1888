"""The libraries that the contract tests through the same public calls: gradtx and optax.

A case is found by walking a library's namespace: every public constructor is called with its required arguments;
`GLOSSARY` gives a value for each argument name. The registry, `tests/cases.py`, adds further settings, and the laws
that a method cannot keep, with the reasons; they apply to both libraries.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
import optax.contrib

import gradtx as gx
from tests.cases import FUNCTIONS, PER_EXAMPLE, SCHEDULES, TRANSFORMATIONS, Case, madgrad_rate, pow64

INNER = "adam(0.1)"
GLOSSARY = {
    **dict.fromkeys(("inner", "base_optimizer", "fast_optimizer", "opt", "optimizer", "tx"), INNER),
    "adv_optimizer": "sgd(0.05)",
    "beta": "0.5",
    "boundaries": "[5]",
    "clipping": "0.3",
    "cosine_kwargs": "[dict(init_value=0.1, peak_value=1.0, warmup_steps=2, decay_steps=7)]",
    "decay": "0.9",
    "decay_rate": "0.5",
    "decay_steps": "12",
    "depth_of": "depth",
    "dual": "sgd(0.5)",
    "end_value": "0.1",
    "eta": "0.01",
    "every": "2",
    "every_k_schedule": "2",
    "f": "negate",
    "factor": "halving",
    "formats": "{'mu': 'bfloat16'}",
    "fn": "halving",
    "freeze_mask": "{'deep': False, 'w': True}",
    "gamma": "0.55",
    "init_value": "0.5",
    "inner_factory": "adamw",
    "interpolate_type": "'linear'",
    "l2_norm_clip": "0.5",
    "learning_rate": "0.1",
    "lipschitz": "3.0",
    "lower": "-3.0",
    "mask": "{'deep': False, 'w': True}",
    "max_backtracking_steps": "10",
    "max_consecutive_errors": "3",
    "max_delta": "0.3",
    "max_linesearch_steps": "10",
    "max_norm": "0.5",
    "measure": "tree_norm",
    "measure_name": "'norm'",
    "measures": "{'norm': tree_norm}",
    "milestones": "[3, 8]",
    "multiplier": "2.0",
    "noise_multiplier": "0.3",
    "oracle": "oracle_simplex",
    "param_labels": "{'deep': 'b', 'w': 'a'}",
    "peak_value": "1.0",
    "period": "3",
    "power": "2.0",
    "projection": "projection_simplex",
    "prox": "prox_l2",
    "queries": "select.path('w')",
    "radius": "2.0",
    "rate": "0.1",
    "rule": "scale_by_muon()",
    "schedules": "[linear_schedule(1.0, 0.2, 10), constant_schedule(0.5)]",
    "seed": "1",
    "should_transform_fn": "late",
    "slow_step_size": "0.5",
    "stable_steps": "5",
    "start": "1",
    "step_size": "0.5",
    "step_size_fn": "halving",
    "steps": "100",
    "steps_up": "3",
    "sync_period": "2",
    "threshold": "0.2",
    "transforms": "{'a': adam(0.1), 'b': sgd(0.5, momentum=0.9)}",
    "transition_steps": "10",
    "upper": "float('inf')",
    "value": "0.5",
    "warmup_steps": "4",
}
"""What to give for an argument that has no default."""

APART = {
    "measure_with_ema": "a part of monitor: it returns a number in place of updates",
    **{case.expression.partition("(")[0]: "its trees are other ones; it has tests of its own" for case in PER_EXAMPLE},
}
"""Constructors whose trees are not those of the laws, with the reason."""

NOT_ALIKE = {
    "lookahead": "optax's parameters are pairs",
    "monitor": "the structure of optax's state is another after the first step, as it says",
    "inject_stateful_hyperparams": "another name of inject_hyperparams",
    "sophia": "optax's wants its own function of the loss; tests/curvature/test_sophia.py compares them",
}
"""Constructors of optax that cannot be called as gradtx's are, with the reason."""


class Foreign:
    """A transformation of another library, with the extra arguments that it accepts."""

    def __init__(self, expression: str, tx: Any) -> None:
        self.opaque = "opaque_mode" in expression
        self.searches = ("linesearch" in expression or "lbfgs()" in expression) and "linesearch=None" not in expression
        self.init = tx.init
        self._update = optax.with_extra_args_support(tx).update
        taken = inspect.signature(self._update).parameters.values()
        self._takes = None if any(x.kind is x.VAR_KEYWORD for x in taken) else {x.name for x in taken}

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        if self._takes is not None:
            extra = {name: x for name, x in extra.items() if name in self._takes}
        return self._update(updates, state, params, **extra)


@dataclasses.dataclass(frozen=True)
class Library:
    """A library under the contract: its names, constructors and cases."""

    name: str
    namespaces: tuple[Any, ...]
    values: bool
    """Whether its transformations are values, and its hyperparameters data."""
    constructs: Callable[[str, Any], bool]
    """Whether a public name stands for a constructor."""

    @functools.cached_property
    def names(self) -> dict[str, Any]:
        """Returns the names that the expressions of cases use."""
        own = {name: x for space in self.namespaces for name, x in vars(space).items() if not name.startswith("_")}
        return {"tree_norm": gx.tree.norm, "pow64": pow64, "madgrad_rate": madgrad_rate, **own, **FUNCTIONS}

    def make(self, expression: str) -> Any:
        made = eval(expression, dict(self.names))
        return made if self.values or not hasattr(made, "update") else Foreign(expression, made)

    def constructors(self) -> Iterator[str]:
        """Returns the public constructors of transformations and schedules."""
        yield from (name for name, x in self.names.items() if name not in FUNCTIONS and self.constructs(name, x))

    def cases(self) -> list[Case]:
        """Returns a case for every constructor, and the registry's cases that the library has."""
        known = TRANSFORMATIONS + PER_EXAMPLE + SCHEDULES
        found = {case.expression: case for case in (known if self.values else self._of_optax(known))}
        called = {case.constructor for case in found.values()}
        for name in self.constructors():
            if name not in called:
                found[name] = Case(self.generated(name), optax=None, why="generated")
        return [case for case in found.values() if self.values or case.constructor not in NOT_ALIKE]

    def generated(self, name: str) -> str:
        """Returns a call of a constructor with its required arguments."""
        given = []
        for parameter in inspect.signature(self.names[name]).parameters.values():
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
                if parameter.name not in GLOSSARY:
                    raise LookupError(f"{name}: say what to give for {parameter.name} in GLOSSARY, or list a case")
                keyword = f"{parameter.name}=" if parameter.kind is parameter.KEYWORD_ONLY else ""
                given.append(keyword + GLOSSARY[parameter.name])
        return f"{name}({', '.join(given)})" + ("(0.1)" if "inject_" in name else "")

    def _of_optax(self, known: list[Case]) -> Iterator[Case]:
        """Returns the cases that optax has, in optax's spelling; a case is left out if optax's method differs."""
        for case in known:
            with contextlib.suppress(NameError, AttributeError, TypeError, ValueError):
                its = dataclasses.replace(case, expression=case.optax or case.expression)
                if its.constructor == case.constructor and self.make(its.expression) is not None:
                    yield its

    def __repr__(self) -> str:
        return self.name


def _makes_a_value(name: str, item: Any) -> bool:
    if name not in gx.__all__:
        return False
    if inspect.isfunction(item):
        item = vars(gx).get(str(inspect.signature(item).return_annotation))
    abstract = (
        gx.GradientTransformation,
        gx.rules.Schedule,
        gx.rules.Elementwise,
        gx.rules.Layerwise,
        gx.rules.Treewide,
    )
    return inspect.isclass(item) and issubclass(item, abstract[:2]) and item not in abstract


_UNANNOTATED = ("dog", "dowg", "scale_by_factored_rms")


def _makes_a_pair(name: str, item: Any) -> bool:
    if not inspect.isfunction(item):
        return False
    made = str(inspect.signature(item).return_annotation)
    is_schedule = name.endswith(("_schedule", "_schedules")) or name == "exponential_decay"
    return "GradientTransformation" in made or is_schedule or name in _UNANNOTATED


GRADTX = Library("gradtx", (gx,), True, _makes_a_value)
OPTAX = Library("optax", (optax.contrib, optax), False, _makes_a_pair)
LIBRARIES = {library.name: library for library in (GRADTX, OPTAX)}


@contextlib.contextmanager
def its_rules(library: Library) -> Iterator[None]:
    """Allows what optax does but gradtx's tests forbid: broadcasting arrays of different ranks, and warnings."""
    if library.values:
        yield
        return
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
