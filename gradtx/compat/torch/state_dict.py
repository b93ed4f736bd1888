"""Reads a state dict of PyTorch by the paths of the corresponding leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradtx import checks
from gradtx.compat.arrays import fitted

__all__ = ["Layout", "Names", "StateDict", "places"]

IMPLIED = {"step", "mu"}
"""Keys that gradtx does not need; `mu` is the averaging weight of the next point in ASGD."""

Names = Sequence[str | None] | Mapping[Any, str | None] | Callable[[str], str | None] | None
Layout = Callable[[str, np.ndarray], Any] | Mapping[str, Sequence[int]] | None


def places(who: str, state_dict: Mapping[str, Any], params: Any, names: Names) -> dict[str, str]:
    """Maps the path of each leaf to the index of the corresponding parameter in PyTorch, as text.

    Raises:
      ValueError: `state_dict` is not a state dict, or the names do not match the parameters.
    """
    if not (isinstance(state_dict, Mapping) and {"state", "param_groups"} <= set(state_dict)):
        raise ValueError(
            f"{who}: expected a state dict, as optimizer.state_dict() returns it, with 'state' and 'param_groups'; got "
            f"{checks.shown(state_dict)}."
        )
    paths, groups = checks.paths(params), state_dict["param_groups"]
    order = [str(i) for group in groups for i in group["params"]]
    known = [name for group in groups for name in group.get("param_names", ())]
    if names is None:
        given: list[str | None] = list(paths)
    elif callable(names):
        if len(known) != len(order):
            raise ValueError(
                f"{who}: names is a function of PyTorch's names, but the optimizer was made without names. Give a list "
                "of paths in the order of its parameters."
            )
        given = [names(name) for name in known]
    elif isinstance(names, Mapping):
        given = _by_key(who, names, order, known)
    else:
        given = list(names)
    if len(given) != len(order):
        raise ValueError(
            f"{who}: the optimizer has {len(order)} parameters, and {'params' if names is None else 'names'} "
            f"{len(given)}. Say in names which leaf each parameter is, with None for a parameter to leave out."
        )
    found: dict[str, str] = {}
    for i, name in zip(order, given, strict=True):
        if name is None:
            continue
        path = name if name in paths else name.replace(".", "/")
        if path not in paths or path in found:
            wrong = "twice" if path in found else f"and params has no such leaf; it has {checks.listed(paths)}"
            raise ValueError(f"{who}: names has {name!r} for parameter {i} of PyTorch, {wrong}.")
        found[path] = i
    return found


def _by_key(who: str, names: Mapping[Any, str | None], order: list[str], known: list[str]) -> list[str | None]:
    by_text = {str(key): path for key, path in names.items()}
    unknown = set(by_text) - set(order) - set(known)
    if unknown:
        raise ValueError(
            f"{who}: names has {checks.listed(sorted(unknown))}, which is neither the index nor the name of a "
            "parameter of PyTorch."
        )
    keys = [name if name in by_text else i for i, name in zip(order, known or order, strict=True)]
    missing = [key for key in keys if key not in by_text]
    if missing:
        raise ValueError(
            f"{who}: names has no entry for {checks.listed(missing)}. Give a path, or None to leave it out."
        )
    return [by_text[key] for key in keys]


def _as_array(where: str, x: Any) -> np.ndarray:
    """Converts a tensor, or anything that `numpy.asarray` accepts, to a NumPy array."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        if "bfloat16" in str(getattr(x, "dtype", "")):  # NumPy has no bfloat16
            x = x.float()
    found = np.asarray(x)
    if found.dtype == object:
        raise TypeError(f"{where} is {checks.shown(x)}, which is not an array.")
    return found


class StateDict:
    """A state dict of PyTorch that is read by the paths of the leaves."""

    def __init__(self, state_dict: Any, params: Any, names: Names, layout: Layout, told: int | None) -> None:
        self.places = places("load_state", state_dict, params, names)
        self.entries = {str(i): dict(entry) for i, entry in state_dict["state"].items()}
        self.layout, self.told = layout, told
        self.taken: set[tuple[str, str]] = set()

    def entry(self, path: str) -> dict[str, Any]:
        """Returns the entry of the state dict for a leaf: PyTorch's values by key."""
        return self.entries.get(self.places.get(path, ""), {})

    def array(self, where: str, path: str, keys: Sequence[str], old: Any) -> Any:
        """Returns the array of a leaf under the first key whose array has the right shape."""
        entry = self.entry(path)
        found = {key: self._read(path, key) for key in keys if entry.get(key) is not None}
        if not found:
            has = f"has {', '.join(entry)}" if entry else "has no state"
            if path not in self.places:
                has = "is not named"
            raise ValueError(
                f"load_state: {where} of {path} is PyTorch's {' or '.join(keys)}, but the parameter {has} in the "
                "state_dict. Give the state_dict and the transformation of one optimizer."
            )
        right = [key for key, x in found.items() if x.shape == np.shape(old)]
        key = right[0] if right else next(iter(found))
        if not right:
            raise ValueError(
                f"load_state: {where} of {path} has the shape {np.shape(old)}, and PyTorch's {key} of parameter "
                f"{self.places[path]} has {found[key].shape}. Say in `names` which parameter is which, and in `layout` "
                "how axes are ordered, as in layout=lambda path, x: x.T."
            )
        self.taken.add((self.places[path], key))
        return fitted(f"load_state: {where} of {path}", found[key], old, "Give the state_dict of one optimizer.")

    def _read(self, path: str, key: str) -> np.ndarray:
        x = _as_array(f"load_state: {key} of {path}", self.entry(path)[key])
        if isinstance(self.layout, Mapping):
            axes = self.layout.get(path, self.layout.get(path.replace("/", ".")))
            return x if axes is None else np.transpose(x, axes)
        return x if self.layout is None else np.asarray(self.layout(path, x))

    def number(self, where: str, paths: Iterable[str], key: str) -> Any:
        """Returns the number under a key, which must be the same for all leaves; None if no leaf has the key."""
        found: dict[float, str] = {}
        for path in paths:
            if self.entry(path).get(key) is not None:
                self.taken.add((self.places[path], key))
                found[float(_as_array(f"load_state: {key} of {path}", self.entry(path)[key]))] = path
        if len(found) > 1:
            values = ", ".join(f"{value:g} for {path}" for value, path in list(found.items())[:3])
            raise ValueError(
                f"load_state: {where} is a single number in gradtx, but PyTorch's {key} differs between parameters: "
                f"{values}. Put parameters with different step counts into different groups, with gx.partition."
            )
        return next(iter(found), None)

    def count(self, where: str, paths: Sequence[str]) -> int:
        """Returns the number of steps that a transformation has taken."""
        found = self.number(where, paths, "step")
        found = self.number(where, self.places, "step") if found is None else found
        steps = self.told if found is None else found
        if steps is None:
            raise ValueError(
                f"load_state: the state_dict has no step count for {where}; PyTorch's SGD and Muon keep none. Give the "
                "number of steps taken, as in count=1000."
            )
        if found is not None and self.told not in (None, int(found)):
            raise ValueError(
                f"load_state: count={self.told}, but the state_dict has counted {int(found)} steps. Leave count out."
            )
        return int(steps)

    def check_all_taken(self) -> None:
        """Raises if the state dict has a value for which the transformation has no place."""
        for path, i in self.places.items():
            left = [
                key
                for key, x in self.entries.get(i, {}).items()
                if x is not None and key not in IMPLIED and (i, key) not in self.taken
            ]
            if left:
                raise ValueError(
                    f"load_state: the state_dict has {', '.join(left)} for {path}, but the transformation has no place "
                    "for it. Give the transformation of the same optimizer."
                )
