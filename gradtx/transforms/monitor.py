"""Links that look at the updates and leave them as they are: what they see is in the state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx import checks
from gradtx.core.branch import alike
from gradtx.core.hyper import Hyper, hyper
from gradtx.core.report import reports
from gradtx.core.transformation import GradientTransformation, as_transformation
from gradtx.core.value import child, dtype, flag, function, static
from gradtx.transforms.momentum import ema

__all__ = ["MonitorState", "SnapshotState", "measure_with_ema", "monitor", "snapshot"]


@reports("measurement")
class SnapshotState(NamedTuple):
    """What was measured last, by its name; zeros before the first step."""

    measurement: dict[str, Any]


@reports("measurements")
class MonitorState(NamedTuple):
    """What was measured last, by name; zeros before the first step; and the measures' states."""

    measurements: dict[str, Any]
    measure_states: dict[str, Any]


def _zeros(fn: Callable[..., Any], *args: Any) -> Any:
    """Zeros like what the function returns, which is not computed."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, *args))


def _name(who: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{who}: {name} must be a string, got {checks.shown(value)}.")
    return value


class snapshot(GradientTransformation):
    """Keeps `measure(updates)` in the state, under `measure_name`; the updates stay as they are.

    `measure` is a function from the updates to a tree of arrays; scalars are among `metrics(state)`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.chain(gx.snapshot("norm_before", gx.tree.norm), gx.clip(1.0))
    >>> g = jnp.array([3.0, 4.0])
    >>> updates, state = tx.update(g, tx.init(g))
    >>> print(gx.metrics(state))
    {'norm_before': Array(5., dtype=float32)}
    """

    measure_name: str = static(check=_name)
    measure: Any = static(check=function)

    def init(self, params: Any) -> SnapshotState:
        return SnapshotState({self.measure_name: _zeros(self.measure, params)})

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, SnapshotState]:
        self._check_extra(extra)
        self._check_state(state, SnapshotState)
        return updates, SnapshotState(alike("snapshot", {self.measure_name: self.measure(updates)}, state.measurement))


class _measured(GradientTransformation):
    """A function of the updates as a transformation."""

    fn: Any = static(check=function)

    def init(self, params: Any) -> tuple[()]:
        return ()

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        return self.fn(updates), state


class monitor(GradientTransformation):
    """Keeps several measurements of the updates in the state; the updates stay as they are.

    `measures` is a dict from a name to a function of the updates, or to a transformation whose updates are the
    measurement, such as `measure_with_ema`. Scalars are among `metrics(state)`.

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

    def init(self, params: Any) -> MonitorState:
        states = {name: tx.init(params) for name, tx in self._named()}
        zeros = {
            name: _zeros(lambda p, tx=tx, name=name: tx.update(p, states[name], p)[0], params)
            for name, tx in self._named()
        }
        return MonitorState(zeros, states)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, MonitorState]:
        self._check_extra(extra)
        self._check_state(state, MonitorState)
        measurements, states = {}, {}
        for name, tx in self._named():
            used = tx._used(extra)
            measurements[name], states[name] = tx.update(updates, state.measure_states[name], params, **used)
        return updates, MonitorState(alike("monitor", measurements, state.measurements), states)

    def _named(self) -> Iterator[tuple[str, GradientTransformation]]:
        return zip(self.names, self.measures, strict=True)

    def _accepts(self, name: str) -> bool:
        return super()._accepts(name) or any(tx._accepts(name) for tx in self.measures)

    def _hyperparameters(self, state: Any) -> Iterator[tuple[str, Any]]:
        for name, tx in self._named():
            inner = None if state is None else state.measure_states[name]
            yield from ((f"{name}.{key}", value) for key, value in tx._hyperparameters(inner))

    def _parts(self) -> dict[str, Any]:
        return dict(self._named())

    def _with_parts(self, parts: dict[str, Any]) -> monitor:
        return monitor(parts)

    def _arguments(self) -> Iterator[tuple[str | None, Any]]:
        yield None, {name: tx.fn if isinstance(tx, _measured) else tx for name, tx in self._named()}


class measure_with_ema(GradientTransformation):
    """For `monitor`: the moving average of `measure(updates)`, with the arguments and the state of `ema`.

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

    def init(self, params: Any) -> Any:
        return self._ema().init(_zeros(self.measure, params))

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        self._check_extra(extra)
        return self._ema().update(self.measure(updates), state)

    def _ema(self) -> ema:
        return ema(self.decay, self.debias, self.accumulator_dtype)
