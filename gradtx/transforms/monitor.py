"""Measures updates and leaves them unchanged; the measurements are stored in the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from gradtx import checks, mesh
from gradtx.core.branch import alike
from gradtx.core.composite import Composite, View
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.metrics import reports
from gradtx.core.slots import child_state, per_tree
from gradtx.core.state import EmptyState
from gradtx.core.stateful import Stateful
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, dtype, flag, function, static
from gradtx.transforms.momentum import ema
from gradtx.types import Params, State, Updates

__all__ = ["MonitorState", "SnapshotState", "measure_with_ema", "monitor", "snapshot"]


@reports("measurement")
class SnapshotState(NamedTuple):
    """The state of `snapshot`: a dict from the name of the measurement to its last value; zeros at first."""

    measurement: dict[str, Any] = per_tree(start="nothing_measured")


@reports("measurements")
class MonitorState(NamedTuple):
    """The state of `monitor`: the last measurements by name (zeros at first), and the states of the measures."""

    measurements: dict[str, Any] = per_tree(start="nothing_measured")
    measure_states: dict[str, Any] = child_state(of=None)


def _zeros(fn: Callable[[Any], Any], params: Any) -> Any:
    """Returns zeros with the shapes and dtypes that `fn` returns, replicated on each device of the parameters."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, params))
    return mesh.everywhere(zeros, params)


def _name(who: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a string, got {checks.shown(value)}.")
    return value


class snapshot(Stateful, state=SnapshotState):
    """Keeps `measure(updates)` in the state and leaves the updates unchanged.

    Use it to observe the updates at one place in a chain, such as the norm of the gradient before clipping. If the
    measurement is a scalar, `gx.metrics(state)` reports it. For several measurements at the same place use `monitor`.

    Args:
      measure_name: Name of the measurement in `state.measurement` and in `gx.metrics(state)`.
      measure: Function of the updates that returns an array or a tree of arrays, such as `gx.tree.norm`.

    Returns:
      A transformation. State: the last measurement.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.chain(gx.snapshot("norm_before", gx.tree.norm), gx.clip(1.0))
      >>> g = jnp.array([3.0, 4.0])
      >>> updates, state = tx.update(g, tx.init(g))
      >>> print(gx.metrics(state))
      {'norm_before': Array(5., dtype=float32)}
    """

    measure_name: str = static(check=_name)
    measure: Any = static(check=function)

    def nothing_measured(self, params: Any) -> dict[str, Any]:
        """Returns zeros, the measurement before the first step."""
        return {self.measure_name: _zeros(self.measure, params)}

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, SnapshotState]:
        found = {self.measure_name: self.measure(updates)}
        return updates, SnapshotState(measurement=alike("snapshot", found, state.measurement))


class _Looking(Composite):
    """A transformation that contains measures, whose updates are measurements and do not change the parameters."""

    def movers(self) -> dict[str, GradientTransformation]:
        return {}


class _measured(Stateful, state=EmptyState):
    """Turns a function of the updates into a transformation whose updates are the function's result."""

    fn: Any = static(check=function)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        return self.fn(updates), state


class monitor(_Looking, state=MonitorState):
    """Keeps several measurements of the updates in the state and leaves the updates unchanged.

    `gx.metrics(state)` reports the measurements that are scalars.

    Args:
      measures: A dict from names to measures. A measure is a function of the updates, such as `gx.tree.norm`, or a
        transformation whose updates are the measurement, such as `measure_with_ema`.

    Returns:
      A transformation. State: the last measurements, and the states of the measures that are transformations.

    Raises:
      TypeError: `measures` is not a dict, or one of its values is neither a function nor a transformation.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.monitor({"norm": gx.tree.norm, "smooth": gx.measure_with_ema(gx.tree.norm, 0.9)})
      >>> g = jnp.array([3.0, 4.0])
      >>> updates, state = tx.update(g, tx.init(g))
      >>> print({name: round(float(x), 3) for name, x in gx.metrics(state).items()})
      {'norm': 5.0, 'smooth': 5.0}
    """

    measures: tuple[Any, ...] = child()
    names: tuple[str, ...] = static()

    def __init__(self, measures: Mapping[str, Any]) -> None:
        if not isinstance(measures, Mapping):
            raise TypeError(f"monitor: measures must be a dict from name to function, got {checks.shown(measures)}.")
        made = (x if hasattr(x, "update") or not callable(x) else _measured(x) for x in measures.values())
        object.__setattr__(self, "measures", tuple(as_transformation("monitor", x) for x in made))
        object.__setattr__(self, "names", tuple(measures))

    def children(self) -> dict[str, GradientTransformation]:
        return dict(zip(self.names, self.measures, strict=True))

    def nothing_measured(self, params: Any) -> dict[str, Any]:
        """Returns zeros, the measurements before the first step."""
        return {
            name: _zeros(lambda p, tx=tx: tx.update(p, tx.init(p), p)[0], params)
            for name, tx in self.children().items()
        }

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, MonitorState]:
        found, states = {}, {}
        for name, tx in self.children().items():
            old, given = state.measure_states[name], tx.accepted(extra)
            found[name], states[name] = tx.update(updates, old, params, **given)
        kept = alike("monitor", found, state.measurements)
        return updates, MonitorState(measurements=kept, measure_states=states)

    def _parts(self) -> dict[str, Any]:
        return dict(self.children())

    def _with_parts(self, parts: dict[str, Any]) -> Self:
        return type(self)(parts)

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        yield None, {name: tx.fn if isinstance(tx, _measured) else tx for name, tx in self.children().items()}


class _Measurement(View):
    """Gives an inner transformation a measurement of the tree instead of the tree itself."""

    def __init__(self, measure: Callable[[Any], Any]) -> None:
        self.measure = measure

    def seen(self, tree: Any) -> Any:
        return self.measure(tree)


class measure_with_ema(_Looking):
    """Measures the exponential moving average of `measure(updates)`, for use in `monitor`.

    Args:
      measure: Function of the updates that returns an array or a tree of arrays, such as `gx.tree.norm`.
      decay: Decay rate of the moving average; a value closer to 1 averages over more steps. In [0, 1).
      debias: Whether to correct the average for its start at zero (default True).
      accumulator_dtype: Dtype in which the average is stored; by default the measurement's dtype, but at least float32.

    Returns:
      A transformation whose updates are the averages. State: one array for each array that `measure` returns.

    Example:
      >>> import jax.numpy as jnp, gradtx as gx
      >>> tx = gx.monitor({"norm": gx.measure_with_ema(gx.tree.norm, 0.9, debias=False)})
      >>> g = jnp.array([3.0, 4.0])
      >>> print(round(float(gx.metrics(tx.update(g, tx.init(g))[1])["norm"]), 3))
      0.5
    """

    measure: Any = static(check=function)
    decay: Hyper = hyper(ge=0, lt=1)
    debias: bool = flag(default=True)
    accumulator_dtype: Any = dtype(default=None)

    def children(self) -> dict[str, GradientTransformation]:
        return {"inner": ema(self.decay, self.debias, self.accumulator_dtype)}

    def views(self, tree: Any) -> dict[str, View]:
        del tree
        return {"inner": _Measurement(self.measure)}

    def init(self, params: Params) -> Any:
        return self.children()["inner"].init(_zeros(self.measure, params))

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        return self.children()["inner"].update(self.measure(updates), state)

    def _members(self, state: Any = None) -> Iterator[tuple[str, GradientTransformation, Any]]:
        """Yields no members, because the arguments of the inner `ema` are fields of this class."""
        del state
        return iter(())
