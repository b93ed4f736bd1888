"""Functions of trees of arrays, and of fields in states: the functions of `optax.tree`, and a few more.

    norm  = gx.tree.norm(grads)
    mu    = gx.tree.get(state, "mu")
    state = gx.tree.set(state, learning_rate=1e-4)

Common to all of them:

- None is a tree without leaves, and stays None.
- 16-bit floats are computed in float32. A single number for a whole tree (`sum`, `norm`, `vdot`) is in float32 or
  wider. A resulting tree has the dtypes to which JAX promotes the arguments; a finite number beyond the range of
  float16 becomes its largest number.
- Trees that belong together must have the same structure; otherwise a ValueError says where they differ.
"""

from gradtx.lazy import lazily as _lazily
from gradtx.tree.arithmetic import add, add_scale, clip, conj, div, mul, real, scale, sub, where
from gradtx.tree.dtypes import cast, cast_like, dtype
from gradtx.tree.filled import batch_shape, full_like, ones_like, zeros_like
from gradtx.tree.internal import number, raveled, real_vdot
from gradtx.tree.internal import scaled as scaled
from gradtx.tree.internal import shrinking as shrinking
from gradtx.tree.keys import random_like, split_key_like, unwrap_random_key_data
from gradtx.tree.moments import (
    bias_correction,
    update_infinity_moment,
    update_moment,
    update_moment_per_elem_norm,
)
from gradtx.tree.reductions import (
    allclose,
    finite,
    max,  # noqa: A004
    min,  # noqa: A004
    nbytes,
    norm,
    norm_sq,
    size,
    sum,  # noqa: A004
    vdot,
)

with _lazily(__name__) as _in_core:  # these know states, and the core uses the functions above
    from gradtx.core.fields import NamedTupleKey as NamedTupleKey
    from gradtx.core.fields import get as get
    from gradtx.core.fields import get_all_with_path as get_all_with_path
    from gradtx.core.fields import set as set  # noqa: A004
    from gradtx.core.map_params import map_params as map_params

__all__ = [
    "NamedTupleKey",
    "add",
    "add_scale",
    "allclose",
    "batch_shape",
    "bias_correction",
    "cast",
    "cast_like",
    "clip",
    "conj",
    "div",
    "dtype",
    "finite",
    "full_like",
    "get",
    "get_all_with_path",
    "map_params",
    "max",
    "min",
    "mul",
    "nbytes",
    "norm",
    "norm_sq",
    "number",
    "ones_like",
    "random_like",
    "raveled",
    "real",
    "real_vdot",
    "scale",
    "set",
    "size",
    "split_key_like",
    "sub",
    "sum",
    "unwrap_random_key_data",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
    "vdot",
    "where",
    "zeros_like",
]
