"""Law 5: finite in, finite out, for zeros, subnormal numbers and the dtype's largest, in every dtype."""

import jax
import jax.numpy as jnp

from tests.cases import finite, trajectory
from tests.laws.scope import TREEWIDE, width
from tests.laws.subject import NotApplicableError, law

DTYPES = ("float16", "bfloat16", "float32", "float64")


def extremes(dtype):
    info = jnp.finfo(dtype)
    return {
        "zero": jnp.zeros(2, dtype),
        "subnormal": jnp.asarray([info.smallest_subnormal] * 2, dtype),
        "tiny": jnp.asarray([info.tiny, -float(info.tiny)], dtype),
        "small": jnp.asarray([float(info.tiny) ** 0.5, 0.0], dtype),
        "large": jnp.asarray([float(info.max) ** 0.5, 1.0], dtype),
        "max": jnp.asarray([info.max, -float(info.max)], dtype),
    }


def sequences(dtype):
    """Three gradients each: every extreme as its sign flips, and plain numbers after a first gradient of zeros."""
    late = jnp.asarray([1.0, -0.5], dtype)
    return {k: jnp.stack([x, -x, x]) for k, x in extremes(dtype).items()} | {"late": jnp.stack([0 * late, late, -late])}


@law(5, "finite", unless="finite")
def finite_in_finite_out(subject):
    """Gradients of zeros, of the smallest and of the largest numbers give finite updates and states, in every dtype."""
    if "{'deep'" in subject.case.expression:
        raise NotApplicableError("its masks and labels are of another tree")

    def steps(grads):
        return trajectory(subject.tx, jax.tree.map(lambda g: jnp.ones_like(g[0]), grads), grads)

    compiled, sees_all = jax.jit(steps), width(subject) == TREEWIDE or "scope" in subject.case.unless
    for dtype in DTYPES:
        alone = [{"w": g} for g in sequences(dtype).values()]  # one leaf could hide another
        for tree in alone if sees_all else [sequences(dtype)]:
            # As it is compiled, and, for rules without loops, operation by operation.
            with jax.disable_jit(not sees_all and dtype in ("bfloat16", "float64")):
                seen = compiled(tree)
            assert finite(seen), f"{dtype}: not finite at {_where(seen)}"


def _where(tree):
    """The path of the first leaf that is not finite: in the updates ([0]) under the name of the gradients."""
    return next(jax.tree_util.keystr(path) for path, x in jax.tree_util.tree_leaves_with_path(tree) if not finite(x))
