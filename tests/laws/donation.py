"""Law 7: a fresh state shares no buffer with the parameters or itself; `init` works on abstract values."""

import jax
import jax.numpy as jnp

from tests.cases import draw
from tests.laws.subject import law


@law(7, "own buffers", compiles=False)
def a_fresh_state_has_its_own_buffers(subject):
    """A fresh state shares no buffer with the parameters or itself: both may be donated together."""
    params = draw(0, "float32")
    leaves = jax.tree.leaves((params, subject.tx.init(params)))
    arrays = [x for x in leaves if isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    pointers = [x.unsafe_buffer_pointer() for x in arrays if x.size]
    assert len(set(pointers)) == len(pointers)


@law(7, "abstract init", compiles=False)
def init_is_abstract(subject):
    """`jax.eval_shape(tx.init, params)` needs shapes alone, and says what `init` returns."""
    params = draw(0, "float32")
    shapes = jax.eval_shape(lambda: params)
    expected = jax.eval_shape(lambda: subject.tx.init(params))
    assert jax.eval_shape(subject.tx.init, shapes) == expected
    concrete = subject.tx.init(params)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), concrete) == jax.tree.map(lambda x: (x.shape, x.dtype), expected)
