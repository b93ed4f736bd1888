"""Transformations inside `jax.shard_map`, where each device sees its own part of the parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gradtx import checks, mesh
from gradtx.core.composite import Composite, Wrapper
from gradtx.core.leafwise import Elementwise, Leafwise, Treewide
from gradtx.core.state import declared
from gradtx.core.value import static
from gradtx.types import Params, State, Updates

__all__ = ["over"]


def _axes(who: str, name: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, tuple) or not names or not all(isinstance(x, str) for x in names):
        raise TypeError(
            f"{who}: {name} must be the name of an axis of the mesh, or a tuple of names, got {checks.shown(value)}."
        )
    return names


class over(Wrapper):
    """Makes `inner` measure the whole tree inside `jax.shard_map`, where each device sees a part of every parameter.

    Inside `shard_map` a norm covers only the device's own part, so `clip_by_global_norm` would clip each part
    separately. With `over`, norms, inner products, sums, largest entries and tests for NaN are taken over all parts.
    This holds for `clip_by_global_norm`, `prodigy`, `dog`, `momo`, `apply_if_finite`, `skip_spikes`, `accumulate` and
    every other transformation that measures the tree. A parameter that is the same on all devices counts once. Outside
    of `shard_map` nothing changes.

    Use it where you write `shard_map` yourself. With `jax.jit` alone, arrays are whole and no wrapper is needed. The
    state of `gx.stored` must be made inside `shard_map`, too.

    Args:
      inner: The transformation.
      axis_name: The axis of the mesh, or axes, over which parameters are split. Average the gradients over the
        axis of the data before: they must be gradients of the whole batch.

    Raises:
      TypeError: `axis_name` is no name.
      ValueError: `shard_map` runs with `check_vma=False`, which hides which arrays are split. In `update`: a
        split parameter reaches a rule that needs whole parameters (such as `muon`'s), a rule that draws noise, or a
        second-order method; `value` differs from device to device.

    >>> import jax, jax.numpy as jnp, gradtx as gx
    >>> from jax.sharding import AxisType, PartitionSpec as P
    >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
    >>> tx = gx.sharding.over(gx.clip_by_global_norm(1.0), "model")
    >>> split = dict(mesh=mesh, in_specs=P("model"), out_specs=P("model"))
    >>> clipped = jax.shard_map(lambda g: tx.update(g, tx.init(g))[0], **split)
    >>> print(jax.jit(clipped)(jnp.array([3.0, 4.0])))
    [0.6 0.8]
    """

    axis_name: Any = static(check=_axes)

    def init(self, params: Params) -> Any:
        with mesh.together(frozenset(self._here())):
            return super().init(params)

    def update(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Any, Any]:
        names = frozenset(self._here())
        if names:
            _check(self.inner, updates, names)
            if mesh.varying_axes(jnp.asarray(extra.get("value", 0))) & names:
                raise ValueError(
                    f"over: value differs between the devices along {', '.join(sorted(names))}, but update needs one "
                    f"value, the loss of the whole batch. Pass value=jax.lax.pmean(value, {tuple(sorted(names))})."
                )
        with mesh.together(names):
            return super().update(updates, state, params, **extra)

    def step(self, updates: Updates, state: State, params: Params, extra: dict[str, Any]) -> tuple[Any, Any]:
        return self.inner_update(updates, state, params, extra)

    def _here(self) -> tuple[str, ...]:
        """Returns the axes of `axis_name` over which a surrounding `shard_map` runs."""
        names = [name for name in self.axis_name if name in jax.sharding.get_abstract_mesh().manual_axes]
        for name in names:
            if name not in mesh.varying_axes(lax.axis_index(name)):
                raise ValueError(
                    "over: shard_map runs with check_vma=False, which hides which arrays are split. Leave check_vma "
                    "out."
                )
        return tuple(names)

    def __repr__(self) -> str:
        return "sharding." + super().__repr__()


def _check(tx: Any, updates: Updates, names: frozenset[str]) -> None:
    """Raises a ValueError if a leaf is split and a transformation needs the whole leaf."""
    paths = zip(checks.paths(updates), jax.tree.leaves(updates), strict=True)
    split = next((path for path, x in paths if mesh.varying_axes(x) & names), None)
    if split is None:
        return
    slots = () if getattr(tx, "State", None) is None else declared(tx.State)
    if "rng_key" in slots:
        raise _refused(
            tx,
            split,
            "would draw the same random numbers on every device, so the noise of the parts would not be independent",
        )
    if isinstance(tx, Composite) and ".layerwise." not in type(tx).__module__:
        views = tx.views(updates)
        for name, child in tx.children().items():
            _check(child, views[name].seen(updates), names)
    elif not isinstance(tx, (Elementwise, Treewide)):
        whole = isinstance(tx, Leafwise) or ".layerwise." in type(tx).__module__
        raise _refused(tx, split, "looks at each leaf as a whole" if whole else "is not known to sum over all parts")


def _refused(tx: Any, path: str, why: str) -> ValueError:
    return ValueError(
        f"over: {type(tx).__name__} {why}, and here it gets a part of {path or 'the parameter'}. Call update "
        "outside of shard_map, under jax.jit, where arrays are whole."
    )
