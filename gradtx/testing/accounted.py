"""Law 13: the declarations of a state account for every byte of the state."""

import jax
import numpy as np

from gradtx import checks, tree
from gradtx.core.describe import describe
from gradtx.testing.data import draw
from gradtx.testing.subject import Subject, law


@law(13, "accounted", of_values=True, quick=True)
def declarations_account_for_every_byte(subject: Subject) -> None:
    """`gx.describe` predicts from shapes which arrays `init` makes: their shapes, dtypes, bytes and axes."""
    params = jax.eval_shape(lambda: draw(0, "float32"))
    state = jax.eval_shape(subject.tx.init, params)
    description, paths = describe(subject.tx, params), {"", *checks.paths(params)}
    assert description.nbytes == tree.nbytes(state), "gx.describe is wrong about the bytes"
    expected = sorted((x.shape, x.dtype.name) for x in jax.tree.leaves(state))
    assert sorted((row.shape, row.dtype) for row in description.rows) == expected, (
        "gx.describe is wrong about the arrays"
    )
    for row in description.rows:
        assert row.nbytes == np.prod(row.shape, dtype=int) * np.dtype(row.dtype).itemsize, row
        assert len(row.axes) == len(row.shape), row
        assert row.path in paths, row
        assert not row.path or row.kind != "per tree", row
