"""Saves and restores with orbax."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from gradtx import checks
from gradtx.checkpoint import leaves
from gradtx.checkpoint.written import check_same, written
from gradtx.core.transformation import as_transformation
from gradtx.sharding import state_shardings

__all__ = ["Checkpoint", "restore", "save"]

_FORMAT = 1
_ITEMS = ("params", "state", "more")


class Checkpoint(NamedTuple):
    """A restored checkpoint, the result of `restore`."""

    step: int
    """The step that was passed to `save`."""
    params: Any
    """The parameters."""
    state: Any
    """The state of the optimizer."""
    more: Any
    """The tree saved as `more`; None if `restore` was called without `more`."""


def save(manager: Any, step: int, tx: Any, params: Any, state: Any, more: Any = None) -> bool:
    """Saves the parameters, the state of an optimizer, and a description of its transformation.

    Call it between two steps. With a manager, `save` returns as soon as the arrays are copied to the host, so the next
    step may donate the arrays; the files are written in the background. If the process is killed while it saves, only
    that checkpoint is lost. In a run with several processes, call `save` in every process.

    Args:
      manager: An `orbax.checkpoint.CheckpointManager`. Its options set how many checkpoints are kept and how often
        one is saved. Or the path of a folder; `save` then returns only when the checkpoint is written.
      step: Number of steps taken so far; `restore` finds the checkpoint by this number. Not negative.
      tx: The transformation. Its hyperparameters and other fields are saved, and `restore` compares them.
      params: The parameters, a tree of arrays.
      state: The state of `tx`.
      more: Anything else that a resumed run needs, such as the random key of the data, the epoch, or the average loss:
        a tree of arrays, random keys and Python numbers. None by default.

    Returns:
      True if a checkpoint was saved; False if the options of the manager skip this step.

    >>> import tempfile, jax.numpy as jnp, gradtx as gx
    >>> tx, params = gx.adam(0.1), {"w": jnp.ones(3)}
    >>> state, folder = tx.init(params), tempfile.mkdtemp()
    >>> gx.checkpoint.save(folder, 100, tx, params, state, more={"epoch": 3})
    True

    Raises:
      ImportError: Orbax is not installed.
      TypeError: `tx` is not a transformation, or a leaf is not an array or a real number.
      ValueError: `step` is negative.
    """
    tx = as_transformation("checkpoint.save", tx)
    step = checks.integer("checkpoint.save", "step", step, ge=0)
    if hasattr(manager, "should_save") and not manager.should_save(step):
        return False
    parts = {name: leaves.named(tree) for name, tree in zip(_ITEMS, (params, state, more), strict=True)}
    for name, found in parts.items():
        _check_arrays("checkpoint.save", name, found)
    about = {
        "format": _FORMAT,
        "transformation": written(tx),
        "repr": repr(tx),
        "layout": {name: leaves.layout(found) for name, found in parts.items()},
    }
    args = _orbax().args
    items = {name: args.PyTreeSave(kept) for name, found in parts.items() if (kept := leaves.stored(found))}
    with _opened(manager) as opened:
        return opened.save(step, args=args.Composite(about=args.JsonSave(about), **items))


def restore(
    manager: Any,
    tx: Any,
    params: Any,
    state: Any = None,
    more: Any = None,
    *,
    shardings: Any = None,
    step: int | None = None,
    changed: Iterable[str] = (),
    convert: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Checkpoint:
    """Restores what `save` saved, bit for bit, onto any devices.

    Pass `params`, `state` and `more` as templates: trees with the structure, shapes and dtypes of the saved trees, made
    of arrays or of shapes (`jax.ShapeDtypeStruct`). Each array is restored with the sharding of its template, so the
    devices may differ from those of the saved run.

    Args:
      manager: The `orbax.checkpoint.CheckpointManager`, or the folder.
      tx: The transformation. It must equal the saved transformation, except for the fields in `changed`.
      params: The parameters before the first step, or their shapes.
      state: The state before the first step, or its shapes; by default the shapes of `tx.init(params)`, which
        you need not compute.
      more: A template of the tree that was saved as `more`; None (default) does not restore that tree.
      shardings: The shardings of the restored state, from `gx.sharding.state_shardings`; `zero_axis` may differ from
        the saved run. By default the shardings of `state`, or if that is None, those of `tx.init(params)`.
      step: Which checkpoint; the latest by default.
      changed: The names of hyperparameters and other fields that may differ from the checkpoint, as in
        `("learning_rate",)`; the run continues with the values in `tx`. Write names as `gx.hyperparameters` returns
        them, or only the last component of a name. Empty by default.
      convert: A function for states of an older layout, `convert(arrays) -> arrays`. It gets the saved state as a dict
        from name to array, such as `arrays["0/mu/dense/kernel"]`, and returns one with the names that `tx` has now.

    Returns:
      A `Checkpoint` with `step`, `params`, `state` and `more`.

    >>> import tempfile, jax.numpy as jnp, gradtx as gx
    >>> tx, params, folder = gx.adam(0.1), {"w": jnp.ones(3)}, tempfile.mkdtemp()
    >>> saved = gx.checkpoint.save(folder, 100, tx, params, tx.init(params))
    >>> gx.checkpoint.restore(folder, tx, {"w": jnp.zeros(3)}).params
    {'w': Array([1., 1., 1.], dtype=float32)}
    >>> gx.checkpoint.restore(folder, gx.adam(0.1, b1=0.8), params)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: checkpoint.restore: the checkpoint belongs to another transformation: scale_by_adam.b1 is 0.9 ...

    Raises:
      ImportError: Orbax is not installed.
      ValueError: There is no checkpoint; it was saved with a different transformation; or arrays are missing, left
        over, or differ in shape or dtype. The error names the first such field or array.
    """
    who = "checkpoint.restore"
    tx = as_transformation(who, tx)
    state = _wanted(tx, params, state, shardings)
    with _opened(manager, create=False) as opened:
        step = _step(who, opened, step)
        about = _about(who, opened, step)
        check_same(who, about["transformation"], tx, changed)
        read = partial(_read, who, opened, step, about["layout"])
        kept = None if more is None else read("more", more)
        return Checkpoint(step, read("params", params), read("state", state, convert), kept)


def _wanted(tx: Any, params: Any, state: Any, shardings: Any) -> Any:
    """Returns the template of the state, with the shardings that the restored state will have."""
    places = [getattr(x, "sharding", None) for x in jax.tree.leaves(params)]
    if state is None:
        state = jax.eval_shape(tx.init, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params))
        if shardings is None and places and all(isinstance(x, NamedSharding) for x in places):
            shardings = state_shardings(tx, params)
    if shardings is None:
        return state
    return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), state, shardings)


def _read(who: str, opened: Any, step: int, layouts: Any, name: str, tree: Any, convert: Any = None) -> Any:
    """Restores one item of the checkpoint: "params", "state" or "more"."""
    saved, like = layouts[name], leaves.named(tree)
    _check_arrays(who, name, like)
    problem = None if convert else leaves.difference(saved, like)
    if problem is not None:
        raise ValueError(f"{who}: {name} is not as it was saved: {problem}. {_ADVICE[name]}")
    arrays = _arrays(opened, step, name, leaves.like_saved(saved, like))
    if convert is not None:
        arrays = dict(convert(dict(arrays)))
        problem = leaves.difference(leaves.layout(arrays), leaves.data_of(like))
        if problem is not None:
            raise ValueError(f"{who}: convert must return the arrays that the state has now, but {problem}.")
    placed = [leaves.placed(arrays.get(key), saved.get(key), x) for key, x in like.items()]
    return jax.tree.structure(tree).unflatten(placed)


def _arrays(opened: Any, step: int, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Reads the arrays of one item: JAX arrays if a sharding is given, NumPy arrays otherwise."""
    if not asked:
        return {}
    orbax = _orbax()
    how = {
        key: orbax.RestoreArgs(restore_type=np.ndarray)
        if x.sharding is None
        else orbax.ArrayRestoreArgs(sharding=x.sharding, global_shape=x.shape, dtype=x.dtype)
        for key, x in asked.items()
    }
    wanted = orbax.args.PyTreeRestore(item=asked, restore_args=how)
    return opened.restore(step, args=orbax.args.Composite(**{name: wanted}))[name]


_ADVICE = {
    "params": "Give params the tree, shapes and dtypes that were saved.",
    "more": "Give more the tree, shapes and dtypes that were saved.",
    "state": "For a state of an older layout give convert=, a function from its arrays by name to those of now.",
}


def _check_arrays(who: str, name: str, found: dict[str, Any]) -> None:
    for path, x in found.items():
        if checks.dtype(x) is None or isinstance(x, complex):
            raise TypeError(
                f"{who}: {name} has {checks.shown(x)} at {path}. A checkpoint holds arrays, random keys and real "
                "numbers; leave other things out."
            )


def _step(who: str, opened: Any, step: int | None) -> int:
    steps = sorted(opened.all_steps())
    if not steps or (step is not None and step not in steps):
        there = ", ".join(map(str, steps)) or "none"
        what = "no complete checkpoint" if step is None else f"no complete checkpoint of step {step}"
        raise ValueError(f"{who}: there is {what} in {opened.directory}; the steps there are: {there}.")
    return steps[-1] if step is None else step


def _about(who: str, opened: Any, step: int) -> Any:
    args = _orbax().args
    try:
        about = opened.restore(step, args=args.Composite(about=args.JsonRestore()))["about"]
    except (FileNotFoundError, KeyError) as error:
        raise ValueError(
            f"{who}: the checkpoint of step {step} was not saved by gradtx.checkpoint.save. Restore it with orbax."
        ) from error
    if about["format"] > _FORMAT:
        raise ValueError(
            f"{who}: a newer gradtx saved the checkpoint of step {step}. Install that version, or a later."
        )
    return about


def _orbax() -> Any:
    try:
        import orbax.checkpoint as orbax
    except ImportError as error:
        raise ImportError("gradtx.checkpoint needs orbax: pip install 'gradtx[checkpoint]'.") from error
    return orbax


@contextlib.contextmanager
def _opened(manager: Any, *, create: bool = True) -> Iterator[Any]:
    """Yields the manager itself, or a new manager for a folder, which is closed when everything is written."""
    if not isinstance(manager, (str, os.PathLike)):
        yield manager
        return
    folder = os.fspath(manager)
    folder = folder if "://" in folder else os.path.abspath(folder)
    if not create and "://" not in folder and not os.path.isdir(folder):
        raise ValueError(f"checkpoint.restore: there is no folder {folder}. Give the one that save wrote to.")
    orbax = _orbax()
    opened = orbax.CheckpointManager(folder, options=orbax.CheckpointManagerOptions(create=create))
    try:
        yield opened
    finally:
        opened.close()
