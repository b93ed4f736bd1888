"""Trees as a checkpoint holds them: arrays by name, and a layout that says the dtype and shape of each.

The name of an array is its path, `0/mu/dense/kernel`. A checkpoint holds no containers (dicts, tuples, classes): the
structure comes from the template that is passed to `restore`, so any tree can be restored. Arrays without entries are
recorded only in the layout. Random keys are saved as their bits, and Python numbers as NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from gradtx import checks, leaf

__all__ = ["data_of", "difference", "layout", "like_saved", "named", "placed", "stored"]


def named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths."""
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    names = [checks.slashed(path) or "value" for path, _ in pairs]
    if len(set(names)) < len(names):  # a key with a slash in it reads like two
        names = [checks.keystr(path) for path, _ in pairs]
    return dict(zip(names, (x for _, x in pairs), strict=True))


def layout(leaves: Mapping[str, Any]) -> dict[str, str]:
    """Returns the dtype and shape of each leaf, as text."""
    return {name: _spec(x) for name, x in leaves.items()}


def _spec(x: Any) -> str:
    if _is_python(x):
        return type(x).__name__
    name = f"{x.dtype}/{jax.random.key_impl(x)}" if _is_key(x) and isinstance(x, jax.Array) else str(x.dtype)
    return f"{name}[{','.join(map(str, checks.shape(x)))}]"


def _is_python(x: Any) -> bool:
    return isinstance(x, bool) or (leaf.is_number(x) and not isinstance(x, np.generic))


def _is_key(x: Any) -> bool:
    return not _is_python(x) and checks.kind(x.dtype) == "key"


def _parsed(spec: str) -> tuple[str, tuple[int, ...]]:
    """Returns the dtype and the shape in an entry of a layout."""
    name, _, shape = spec.rstrip("]").partition("[")
    return name, tuple(map(int, shape.split(","))) if shape else ()


def _data(spec: str) -> jax.ShapeDtypeStruct | None:
    """Returns the shape and dtype of the saved array of a layout entry; None for an array without entries."""
    name, shape = _parsed(spec)
    if 0 in shape:
        return None
    if name.startswith("key<"):
        impl = name.partition("/")[2] or None
        return jax.eval_shape(lambda: jax.random.key_data(jnp.broadcast_to(jax.random.key(0, impl=impl), shape)))
    dtypes = {"bool": np.bool_, "int": np.int64, "float": np.float64}
    return jax.ShapeDtypeStruct(shape, dtypes[name] if spec in dtypes else jnp.dtype(name))


def data_of(like: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of the arrays that are saved for leaves like these."""
    found = {name: _data(_spec(x)) for name, x in like.items()}
    return {name: x for name, x in found.items() if x is not None}


def stored(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the leaves to the arrays that are saved."""
    return {name: _bits(x) for name, x in leaves.items() if _is_python(x) or 0 not in checks.shape(x)}


def _bits(x: Any) -> Any:
    if _is_python(x):
        return np.asarray(x, {"bool": np.bool_, "int": np.int64}.get(type(x).__name__, np.float64))
    x = jax.random.key_data(x) if _is_key(x) else x
    # An array that is local to this process is equal in all processes; one of them writes the NumPy copy.
    alone = isinstance(x, jax.Array) and jax.process_count() > 1 and x.is_fully_addressable
    return np.asarray(x) if alone or not isinstance(x, jax.Array) else x


def difference(saved: Mapping[str, str], like: Mapping[str, Any]) -> str | None:
    """Describes the first difference between the saved layout and the template; None if they agree."""
    now = layout(like)
    missing, spare = [x for x in now if x not in saved], [x for x in saved if x not in now]
    if missing:
        return f"{missing[0]} ({now[missing[0]]}) is not in the checkpoint" + _instead(spare)
    if spare:
        return f"the checkpoint has {spare[0]} ({saved[spare[0]]}), which has no place here"
    for name, here in now.items():
        before = saved[name]
        if _comparable(before) != _comparable(here):
            return f"{name} is {before} in the checkpoint, and {here} here"
    return None


def _instead(spare: list[str]) -> str:
    return f", which has {checks.listed(spare)}" if spare else ""


def _comparable(spec: str) -> tuple[str, tuple[int, ...]]:
    name, shape = _parsed(spec)
    return name.partition("/")[0], shape  # a template that is a mere shape has no key implementation


def like_saved(saved: Mapping[str, str], like: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes to request from orbax: with a sharding for arrays on a mesh, without one for NumPy arrays."""
    found = {}
    for name, spec in saved.items():
        data = _data(spec)
        if data is not None:
            where = _sharding(like.get(name)) if not spec.startswith("key<") else None
            fits = isinstance(where, NamedSharding) and checks.shape(like[name]) == data.shape
            found[name] = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=where if fits else None)
    return found


def placed(x: Any, spec: str | None, like: Any) -> Any:
    """Converts a restored array to the type, dtype and sharding of its template."""
    if _is_python(like):
        return type(like)(x.item())
    if isinstance(like, (np.ndarray, np.generic)):
        return np.asarray(x)
    if 0 in checks.shape(like):
        x = np.zeros(checks.shape(like), like.dtype)
    where = _sharding(like)
    if _is_key(like):
        impl = _parsed(spec or _spec(like))[0].partition("/")[2]
        wrap = jax.jit(lambda bits: jax.random.wrap_key_data(bits, impl=impl), out_shardings=where)
        return wrap(np.asarray(x))
    if isinstance(x, jax.Array) and x.sharding == where:
        return x
    if where is None:
        return jnp.array(x)
    return jax.device_put(np.asarray(x) if getattr(x, "is_fully_addressable", True) else x, where)


def _sharding(like: Any) -> Any:
    """Returns the sharding of a template, or None if its placement is free (an uncommitted array)."""
    free = isinstance(like, jax.Array) and not like.committed
    return None if free else getattr(like, "sharding", None)
