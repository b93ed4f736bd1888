"""The module `optax.schedules`: schedules, and `inject_hyperparams`, which keeps hyperparameters in the state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import gradtx as gx
from gradtx import constant_schedule as constant_schedule
from gradtx import cosine_decay_schedule as cosine_decay_schedule
from gradtx import cosine_onecycle_schedule as cosine_onecycle_schedule
from gradtx import exponential_decay as exponential_decay
from gradtx import join_schedules as join_schedules
from gradtx import linear_onecycle_schedule as linear_onecycle_schedule
from gradtx import linear_schedule as linear_schedule
from gradtx import polynomial_schedule as polynomial_schedule
from gradtx import sgdr_schedule as sgdr_schedule
from gradtx import warmup_constant_schedule as warmup_constant_schedule
from gradtx import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from gradtx import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule
from gradtx.compat.optax.spelled import lenient, spelled, strict
from gradtx.compat.optax.states import InjectHyperparamsState as InjectHyperparamsState
from gradtx.compat.optax.states import InjectStatefulHyperparamsState as InjectStatefulHyperparamsState
from gradtx.compat.optax.types import Schedule as Schedule
from gradtx.compat.optax.types import StatefulSchedule as StatefulSchedule
from gradtx.compat.optax.types import WrappedSchedule as WrappedSchedule

_PIECEWISE: dict[str, Any] = {"default": {"boundaries_and_scales": None}, "none": {"boundaries_and_scales": ()}}

piecewise_constant_schedule = spelled(gx.piecewise_constant_schedule, **_PIECEWISE)
piecewise_interpolate_schedule = spelled(gx.piecewise_interpolate_schedule, **_PIECEWISE)


def inject_hyperparams(
    inner_factory: Callable[..., Any], static_args: str | Iterable[str] = (), hyperparam_dtype: Any = None
) -> Callable[..., Any]:
    """Makes a function like `inner_factory` whose transformation keeps its hyperparameters in the state.

    Read and set the hyperparameters as `state.hyperparams["learning_rate"]`.

    Args:
      inner_factory: A function that makes a transformation, such as `optax.sgd`. Its arguments must have names.
      static_args: The name of an argument that should not be in the state, or several names. None by default.
      hyperparam_dtype: Dtype of the hyperparameters in the state. By default, and at least, float32.

    Returns:
      A function with the arguments of `inner_factory`.

    Example:
      >>> import gradtx.compat.optax as optax, jax.numpy as jnp
      >>> tx = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
      >>> print(tx.init(jnp.zeros(1)).hyperparams["learning_rate"])
      0.5
    """
    build = gx.inject_hyperparams(inner_factory, static_args, hyperparam_dtype)

    @functools.wraps(inner_factory)
    def make(*args: Any, **kwargs: Any) -> Any:
        given = {name: _as_stateful(strict(x)) for name, x in kwargs.items()}
        return lenient(build(*(_as_stateful(strict(x)) for x in args), **given))

    return make


class _Stateful(StatefulSchedule):
    """Wraps any object with the methods of `StatefulSchedule`; in optax it need not be a subclass."""

    def __init__(self, schedule: Any) -> None:
        self.init, self.update, self.call = schedule.init, schedule.update, schedule

    def __call__(self, state: Any, **extra: Any) -> Any:
        return self.call(state, **extra)


def _as_stateful(x: Any) -> Any:
    has_methods = callable(x) and hasattr(x, "init") and hasattr(x, "update")
    known = isinstance(x, (type, StatefulSchedule, gx.GradientTransformation))
    return _Stateful(x) if has_methods and not known else x


inject_stateful_hyperparams = inject_hyperparams
