"""Law 7: no two arrays of a fresh state and the parameters share a buffer; `init` works on abstract values."""

import jax
import jax.numpy as jnp

from gradtx.testing.data import draw
from gradtx.testing.subject import Subject, law
from gradtx.types import Params, Transformation


def shares_nothing(tx: Transformation, params: Params) -> None:
    """Asserts that no two leaves of the parameters and a fresh state share a buffer."""
    leaves = jax.tree.leaves((params, tx.init(params)))
    arrays = [x for x in leaves if isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    pointers = [x.unsafe_buffer_pointer() for x in arrays if x.size]
    assert len(set(pointers)) == len(pointers), "two of the leaves share a buffer"


def as_its_shapes_say(tx: Transformation, params: Params) -> None:
    """Asserts that `init` of shapes predicts what `init` of arrays returns."""
    expected = jax.eval_shape(lambda: tx.init(params))
    assert jax.eval_shape(tx.init, jax.eval_shape(lambda: params)) == expected
    concrete = tx.init(params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), concrete) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


@law(7, "own buffers", quick=True)
def a_fresh_state_has_its_own_buffers(subject: Subject) -> None:
    """No two arrays of a fresh state and the parameters share a buffer, so that both may be donated together."""
    shares_nothing(subject.tx, draw(0, "float32"))


@law(7, "abstract init", quick=True)
def init_is_abstract(subject: Subject) -> None:
    """`jax.eval_shape(tx.init, params)` works, and predicts the structure, shapes and dtypes that `init` returns.

    `tx.init` also works on `jax.ShapeDtypeStruct` leaves: it returns arrays, and shapes in place of the arrays that
    depend on the values of the parameters.
    """
    as_its_shapes_say(subject.tx, draw(0, "float32"))
    if subject.is_value:
        takes_shapes(subject.tx, draw(0, "float32"))


def takes_shapes(tx: Transformation, params: Params) -> None:
    """Asserts that `init` of shapes returns arrays, except for arrays that depend on the values of the parameters."""
    state, others = tx.init(params), tx.init(draw(1, "float32", scale=1000.0))
    found = tx.init(jax.eval_shape(lambda: params))
    assert jax.tree.structure(found) == jax.tree.structure(state), "init of shapes returns a different structure"
    for x, one, other in zip(*map(jax.tree.leaves, (found, state, others)), strict=True):
        assert (x.shape, x.dtype) == (one.shape, one.dtype), "init of shapes returns a different shape or dtype"
        alike = bool(jnp.array_equal(one, other, equal_nan=jnp.issubdtype(one.dtype, jnp.inexact)))
        assert isinstance(x, jax.Array) == alike, "init of shapes makes the wrong leaves arrays"
        assert not alike or bool(jnp.all(x == one)), "init of shapes returns a different array"
