"""The nearest point of a set, and proximal operators.

    projection(x) = argmin_p |p - x|^2 / 2  subject to  p in the set
    prox(x)       = argmin_p |p - x|^2 / 2 + scaling * g(p)

A projection is a plain function `projection_*(tree, the set's data)`, and a proximal operator `prox_*(tree, the
function's numbers, scaling=1.0)`; each returns a tree like the one it was given.

- Sets of vectors take the tree as one vector, its leaves in the order of `jax.tree.leaves`.
- Sets of matrices take every leaf as a stack of matrices, in its last two axes, and project each by itself.

Arithmetic is in float32 or wider, whatever the leaves are. Forward and reverse derivatives are those of the projection
as a function, by the tree and by the set's data; where it has a kink, one of its one-sided limits, and always finite.
"""
