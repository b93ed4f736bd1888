"""Slots in storage formats: the engine loads them before a rule, and stores them after it.

A `Packed` takes the place of the plain array in a state, and describes itself: its parts are leaves of the tree,
its format and shape are static. So `gx.stored` need not tell the engine anything; a packed slot passes through
wrappers, loops, checkpoints and `vmap` like any subtree, and a rule never sees one. Loading and storing are a part
of the function that is compiled for a leaf, where XLA fuses them with the rule.
"""

from __future__ import annotations

import math
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from gradtx import leaf, mesh
from gradtx.core.branch import inlined, is_traced
from gradtx.core.value import Value

__all__ = ["Format", "Packed", "draws", "is_packed", "kept", "loaded", "repacked", "unpacked"]


class Format(Value):
    """Base class of storage formats: how an array is stored between steps. Subclasses define `encode` and `decode`.

    A format is a value like a transformation: its fields are `flag`, `integer`, `dtype` and so on. Parts with as
    many axes as the array are split over a mesh as the array is, along each axis where the devices divide the part;
    other parts are whole on each device.

    Class arguments:
      draws: True for a format that rounds stochastically. `encode(x, bits)` then also gets a uint32 for each entry,
        which differs at every step, and for every `seed` if the format has a field of that name. The mean of these
        numbers over steps, or over entries, converges faster than the mean of random numbers.
    """

    draws = False

    def __init_subclass__(cls, *, draws: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.draws = cls.draws or draws

    def encode(self, x: Array) -> Any:
        """Returns the stored form of a real float32 array: an array, or a dict of arrays."""
        raise TypeError(f"{type(self).__name__} must define encode(self, x).")

    def decode(self, parts: Any, shape: tuple[int, ...]) -> Array:
        """Returns the array, in its shape and in float32, from its stored form."""
        raise TypeError(f"{type(self).__name__} must define decode(self, parts, shape).")

    def unsigned(self) -> Format:
        """Returns the variant of this format for arrays that are never negative, such as second moments.

        By default it is the same format. Define it if yours can use that there is no sign.
        """
        return self

    def __repr__(self) -> str:
        own = type(self).__module__.startswith("gradtx.storage")
        return ("storage." if own else "") + super().__repr__()


class Packed:
    """An array in a storage format, in the place of a plain array in a state.

    It has the `shape` and `dtype` of the array, and its stored form as `parts`. `load()` returns the array;
    functions of `jax.numpy` load it, too. `gx.stored` makes them; you rarely construct one.

    Args:
      form: The storage format.
      like: The shape and dtype of the array, as `jax.ShapeDtypeStruct`.
      parts: The stored form: an array, or a dict of arrays.
      clock: A counter for stochastic rounding. None (default) for formats without it.
    """

    __slots__ = ("clock", "format", "like", "parts")

    def __init__(self, form: Format, like: jax.ShapeDtypeStruct, parts: Any, clock: Any = None) -> None:
        self.format, self.like, self.parts, self.clock = form, like, parts, clock

    @classmethod
    def of(cls, form: Format, x: Array, name: str) -> Packed:
        """Stores the array `x` in a format; `name` distinguishes it from other arrays with stochastic rounding."""
        like = jax.ShapeDtypeStruct(x.shape, leaf.accumulator_dtype(x.dtype))
        x, clock = _narrow(x), _clock(form, name) if form.draws else None
        x = lax.optimization_barrier(x) if is_traced(x) else x  # otherwise XLA would encode zeros while it compiles
        clock = None if clock is None else mesh.along(jnp.asarray(clock, jnp.uint32), x, ())
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (x, clock))
        places = mesh.places_like(jax.eval_shape(partial(_encode, form), *shapes), x)
        parts = mesh.automatic(partial(_jitted_encode, form), x, clock, like=places)
        parts = jax.tree.map(lambda part: mesh.along(part, x, mesh.follows(part, x)), parts)
        return cls(form, like, parts, clock)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.like.shape

    @property
    def dtype(self) -> Any:
        """The dtype in which the array is loaded, at least float32."""
        return self.like.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of the array."""
        return len(self.shape)

    def load(self) -> Array:
        """Returns the array."""
        home = next((part for part in jax.tree.leaves(self.parts) if part.ndim == self.ndim), 0)
        x = mesh.automatic(partial(_jitted_decode, self.format, self.shape), self.parts, like=home)
        return leaf.widen(x, self.dtype)

    def children(self) -> dict[str, Any]:
        """Returns the parts of the stored form by name."""
        parts = dict(sorted(self.parts.items())) if isinstance(self.parts, dict) else {"value": self.parts}
        return {**parts, "clock": self.clock}

    def __jax_array__(self) -> Array:
        return self.load()

    def store(self, x: Array, taken: Any = None) -> Packed:
        """Returns the same slot with another array; unless `taken`, if given, the rounding bits do not advance."""
        x, clock = _narrow(jnp.asarray(x)), self.clock
        if clock is not None:
            after = clock + jnp.uint32(_BY_STEP)
            clock = after if taken is None else jnp.where(taken, after, clock)
        parts = mesh.automatic(partial(_jitted_encode, self.format), x, clock, like=self.parts)
        return Packed(self.format, self.like, mesh.split_like(parts, self.parts), clock)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packed) and _flatten(self) == _flatten(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"Packed({self.format!r}, shape={self.shape}, parts={self.parts!r})"


def _flatten(x: Packed) -> tuple[tuple[Any, ...], Any]:
    children = x.children()
    names = tuple(children) if isinstance(x.parts, dict) else None
    return tuple(children.values()), (x.format, x.shape, x.dtype, names)


def _flatten_with_keys(x: Packed) -> tuple[tuple[tuple[Any, Any], ...], Any]:
    children, aux = _flatten(x)
    return tuple(zip(map(jax.tree_util.GetAttrKey, x.children()), children, strict=True)), aux


def _unflatten(aux: Any, children: Any) -> Packed:
    (form, shape, dtype, names), (*parts, clock) = aux, children
    like = jax.ShapeDtypeStruct(shape, dtype)
    return Packed(form, like, parts[0] if names is None else dict(zip(names, parts, strict=False)), clock)


jax.tree_util.register_pytree_with_keys(Packed, _flatten_with_keys, _unflatten, _flatten)


def is_packed(x: Any) -> bool:
    """Whether `x` is a slot in a storage format."""
    return isinstance(x, Packed)


def unpacked(tree: Any) -> Any:
    """Returns a tree of slots with arrays in place of packed ones."""
    return jax.tree.map(lambda x: x.load() if isinstance(x, Packed) else x, tree, is_leaf=is_packed)


def loaded(tree: Any, dtype: Any = np.float32) -> Any:
    """Returns a tree of slots, each as an array in `dtype` or wider."""
    return jax.tree.map(lambda x: leaf.widen(x, dtype), unpacked(tree))


def kept(new: Any, old: Any, taken: Any = None) -> Any:
    """Returns the next values of slots in the form of the old ones: in their formats, or in their dtypes."""

    def one(before: Any, x: Any) -> Any:
        if isinstance(before, Packed):
            return before.store(x, taken)
        return leaf.narrow(x if isinstance(x, Array) else jnp.asarray(x), before.dtype)

    return jax.tree.map(one, old, new, is_leaf=is_packed)


def repacked(new: Any, old: Any) -> Any:
    """Returns a state in the formats of an old one, after `init` has made it without formats."""
    return jax.tree.map(lambda before, x: kept(x, before) if is_packed(before) else x, old, new, is_leaf=is_packed)


def _narrow(x: Array) -> Array:
    return leaf.narrow(x, np.float32)


# --- the bits of stochastic rounding

_BY_ENTRY, _BY_STEP = 0x1D66B9A7, 0x2D914A6F
"""The fractions 1 / (8 + 1 / sqrt(2)) and 1 / (5 + 2 / (1 + sqrt(5))), times 2^32.

Multiples of such numbers are spread over the circle almost as evenly as can be. The mean error of n roundings of one
entry is then of the order of 1 / n, instead of 1 / sqrt(n) for random bits; and the same for n entries of one step.
"""


def _clock(form: Format, name: str) -> np.uint32:
    """Returns where the bits of an array begin: a hash of its name, and of the format's seed, if it has one."""
    return np.uint32(_beginning(getattr(form, "seed", 0), name))


def _beginning(seed: int, name: str) -> int:
    return zlib.crc32(f"{seed} {name}".encode())


def draws(shape: tuple[int, ...], seed: int, name: str, count: Array) -> Array:
    """Returns a uint32 for each entry of an array, different for every seed, name and step."""
    return _bits(shape, jnp.uint32(_beginning(seed, name)) + count.astype(jnp.uint32) * jnp.uint32(_BY_STEP))


def _bits(shape: tuple[int, ...], clock: Array) -> Array:
    """Returns a uint32 for each entry: a multiplicative hash of its position in the whole array, and of the clock."""
    total = jnp.broadcast_to(clock, shape)
    for axis in range(len(shape)):
        by = math.prod(shape[axis + 1 :]) * _BY_ENTRY % 2**32
        total = total + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(by)
    return total


def _encode(form: Format, x: Array, clock: Any) -> Any:
    encode: Any = form.encode
    x = lax.stop_gradient(x)  # a derivative may overflow in the cast to a narrow dtype, and codes have no derivative
    return encode(x) if clock is None else encode(x, _bits(x.shape, clock))


def _decode(form: Format, shape: tuple[int, ...], parts: Any) -> Array:
    return form.decode(parts, shape)


_jitted_encode = inlined(_encode, static_argnums=0)
_jitted_decode = inlined(_decode, static_argnums=(0, 1))
