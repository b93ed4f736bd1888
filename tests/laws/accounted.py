"""Law 13: the declarations of a state say every byte of it, and which axis of which parameter each of its axes follows."""

import jax
import numpy as np

import gradtx as gx
from tests.cases import draw
from tests.laws.subject import law


@law(13, "accounted", of_values=True, quick=True)
def declarations_account_for_every_byte(subject):
    """`gx.describe` says from shapes alone what arrays `init` makes: their shapes, dtypes, bytes, and their axes."""
    params = jax.eval_shape(lambda: draw(0, "float32"))
    state = jax.eval_shape(subject.tx.init, params)
    description = gx.describe(subject.tx, params)
    assert description.nbytes == gx.tree.nbytes(state)
    expected = sorted((x.shape, x.dtype.name) for x in jax.tree.leaves(state))
    assert sorted((row.shape, row.dtype) for row in description.rows) == expected
    assert all(row.nbytes == np.prod(row.shape, dtype=int) * np.dtype(row.dtype).itemsize for row in description.rows)
    for row in description.rows:
        assert len(row.axes) == len(row.shape), row
        assert row.path in {"", "w", "deep/0"}, row
        assert row.path == "" or row.kind != "per tree", row
