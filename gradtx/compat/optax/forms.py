"""States with optax's structure: the classes, and a wrapper that converts the states at every step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from gradtx.core.composite import Wrapper
from gradtx.core.fits import UNKNOWN, Owner, check_class
from gradtx.core.slots import child_state, counter, per_param, per_tree
from gradtx.core.transformation import GradientTransformation
from gradtx.core.value import static
from gradtx.transforms.monitor import MonitorState

__all__ = ["Form", "InForm", "MechanicState", "MonitorForm", "MultiStepsState", "SAMState", "ScheduleFreeState"]


class ScheduleFreeState(NamedTuple):
    """The state of `schedule_free`, with the state of the base optimizer; `z` is the iterate of the base optimizer."""

    b1: Any = per_tree()
    weight_sum: Any = per_tree()
    step_count: Any = counter()
    max_lr: Any = per_tree()
    base_optimizer_state: Any = child_state()
    z: Any = per_param()


class MechanicState(NamedTuple):
    """The state of `mechanize`, with the state of the base optimizer; `total` is the sum of the scales `s`."""

    base_optimizer_state: Any = child_state()
    count: Any = counter()
    r: Any = per_tree()
    m: Any = per_tree()
    v: Any = per_tree()
    s: Any = per_tree()
    x0: Any = per_param()
    total: Any = per_tree()


class MultiStepsState(NamedTuple):
    """The state of `MultiSteps`: gradtx's state of `accumulate`, with the inner state under optax's name."""

    mini_step: Any = counter()
    gradient_step: Any = counter()
    inner_opt_state: Any = child_state()
    acc_grads: Any = per_param()
    skip_state: Any = per_tree()
    acc_weight: Any = per_tree()
    updated: Any = per_tree()
    bad_weights: Any = per_tree()


class SAMState(NamedTuple):
    """The state of `sam`, with the optimizer's state under optax's name."""

    steps_since_sync: Any = counter()
    opt_state: Any = child_state()
    adv_state: Any = child_state()
    cache: Any = per_param()


class Form(NamedTuple):
    """Maps a state of gradtx to optax's structure: the two classes, and the fields with different names."""

    theirs: Any
    ours: Any
    names: Any
    """Pairs of the name of a field in gradtx and its name in optax."""
    has_base: bool = False
    """Whether gradtx has a pair (state of the base optimizer, own state), where optax has one state that contains
    both."""

    def to(self, state: Any) -> Any:
        """Returns the state with optax's structure."""
        base, own = state if self.has_base else (None, state)
        names = dict(self.names)
        fields = {names.get(name, name): x for name, x in own._asdict().items()}
        return self.theirs(**fields, **({"base_optimizer_state": base} if self.has_base else {}))

    def back(self, state: Any) -> Any:
        """Returns the state with gradtx's structure."""
        names = dict(self.names)
        own = self.ours(**{name: getattr(state, names.get(name, name)) for name in self.ours._fields})
        return (state.base_optimizer_state, own) if self.has_base else own


class MonitorForm(NamedTuple):
    """Maps the state of `monitor`: the states of the measures become a tuple, so that each name occurs only once."""

    names: Any
    theirs: Any = MonitorState

    def to(self, state: Any) -> Any:
        """Returns the state in optax's form."""
        return state._replace(measure_states=tuple(state.measure_states[name] for name in self.names))

    def back(self, state: Any) -> Any:
        """Returns the state in gradtx's form."""
        return state._replace(measure_states=dict(zip(self.names, state.measure_states, strict=True)))


class InForm(Wrapper):
    """Wraps `inner` and converts its state to optax's structure."""

    form: Any = static(check=lambda who, name, value: value)

    def init(self, params: Any) -> Any:
        return self.form.to(self.inner.init(params))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        check_class(Owner(type(self.inner).__name__, UNKNOWN, ""), state, self.form.theirs)
        updates, new = self.inner.update(updates, self.form.back(state), params, **extra)
        return updates, self.form.to(new)

    def child_states(self, state: Any) -> dict[str, Any]:
        return {"inner": self.form.back(state)}

    def with_child_states(self, state: Any, states: Any) -> Any:
        return self.form.to(states["inner"])

    def _check_fits(self, state: Any, owner: Owner) -> None:
        check_class(owner, state, self.form.theirs)
        super()._check_fits(state, owner)

    # --- names, hyperparameters and replacement are taken from `inner`

    def path_to(self, name: str) -> tuple[str, ...]:
        del name
        return ()

    def _members(self, state: Any = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        inner: Any = self.inner  # the transformation of gradtx
        return inner._members(None if state is None else self.form.back(state))

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        return self.inner._hyperparameters(None if state is None else self.form.back(state))

    def _parts(self) -> dict[str, Any]:
        return self.inner._parts()

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return type(self)(self.inner._with_parts(parts), self.form)

    def __repr__(self) -> str:
        return repr(self.inner)
