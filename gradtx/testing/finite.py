"""Law 5: gradients of zeros, subnormal numbers or the dtype's largest numbers give finite results in every dtype."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gradtx.core.chain import needs
from gradtx.testing.calls import extra_args, trajectory
from gradtx.testing.data import at, finite
from gradtx.testing.scope import ELEMENTWISE, scope_of
from gradtx.testing.subject import NotApplicableError, Subject, law
from gradtx.types import Updates

DTYPES = ("float16", "bfloat16", "float32", "float64")


def extremes(dtype: str) -> dict[str, Array]:
    info = jnp.finfo(dtype)
    return {
        "zero": jnp.zeros(2, dtype),
        "subnormal": jnp.asarray([info.smallest_subnormal] * 2, dtype),
        "tiny": jnp.asarray([info.tiny, -float(info.tiny)], dtype),
        "small": jnp.asarray([float(info.tiny) ** 0.5, 0.0], dtype),
        "large": jnp.asarray([float(info.max) ** 0.5, 1.0], dtype),
        "max": jnp.asarray([info.max, -float(info.max)], dtype),
    }


def sequences(dtype: str) -> dict[str, Array]:
    """Returns sequences of three gradients by name.

    Each extreme comes with alternating signs; another sequence has ordinary numbers after a first gradient of zeros.
    """
    late = jnp.asarray([1.0, -0.5], dtype)
    return {k: jnp.stack([x, -x, x]) for k, x in extremes(dtype).items()} | {"late": jnp.stack([0 * late, late, -late])}


@law(5, "finite", unless="finite")
def finite_in_finite_out(subject: Subject) -> None:
    """Zero gradients, and gradients of the dtype's smallest and largest numbers, give finite updates and states.

    This holds in every dtype. If the method reads the loss (`value`), one loss of NaN or infinity also gives a finite
    update, and later steps still move the parameters.
    """
    if "{'deep'" in subject.expression:
        raise NotApplicableError("the masks and labels of tx are made for a different tree")

    _bad_values(subject)

    @jax.jit
    def steps(grads: Updates) -> Any:
        return trajectory(subject.tx, {"w": jnp.ones_like(grads[0])}, {"w": grads})

    for dtype in DTYPES:
        for name, grads in _leaves(subject, dtype):
            for path, x in jax.tree_util.tree_leaves_with_path(steps(grads)):
                what = "updates" if path[0].idx == 0 else "state"
                where = jax.tree_util.keystr(path[1:])
                assert finite(x), f"{what}{where} not finite for {dtype} gradients: {_guilty(name, x)}"


def _bad_values(subject: Subject) -> None:
    """Checks that a loss (`value`) that is not finite gives a finite update, and that later updates are not zero."""
    tx = subject.tx
    if "value" not in needs(tx) or "value_fn" in needs(tx):
        return
    extra = extra_args(tx, at(subject.grads, 0), subject.params)
    with jax.disable_jit():
        for bad in (jnp.nan, jnp.inf, -jnp.inf):
            state, updates = tx.init(subject.params), None
            for t, value in enumerate((5.0, bad, 4.0)):
                given = {**extra, "value": jnp.asarray(value)}
                updates, state = tx.update(at(subject.grads, t), state, subject.params, **given)
                assert finite(updates), f"a value of {bad} at step 1 makes the update of step {t} not finite"
            assert any(bool(jnp.any(u != 0)) for u in jax.tree.leaves(updates)), (
                f"after a value of {bad} all updates are zero"
            )


def _guilty(name: str, x: Any) -> str:
    """Returns the names of the extremes whose entries of `x` are not finite; `x` may hold all extremes side by side."""
    names = name.split(", ")
    if np.ndim(x) != 2 or np.shape(x)[1] != 2 * len(names):
        return name
    parts = np.split(np.asarray(x), len(names), axis=1)
    return ", ".join(name for name, part in zip(names, parts, strict=True) if not finite(part))


def _leaves(subject: Subject, dtype: str) -> Iterable[tuple[str, Array]]:
    """Returns the gradients of a leaf by name.

    Elementwise rules get all extremes in one leaf. Other rules get each extreme separately, because an extreme could
    hide the effect of another.
    """
    found = sequences(dtype)
    if "scope" not in subject.unless and scope_of(subject) == ELEMENTWISE:
        return [(", ".join(found), jnp.concatenate(list(found.values()), axis=1))]
    return found.items()
