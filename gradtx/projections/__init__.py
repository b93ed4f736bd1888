"""Projections onto sets, proximal operators, and linear minimization oracles.

    projection(x) = argmin_p |p - x|^2 / 2  subject to  p in the set
    prox(x)       = argmin_p |p - x|^2 / 2 + scaling * g(p)

A projection is a plain function `projection_*(tree, data of the set)`, a proximal operator is a function
`prox_*(tree, numbers of the function, scaling=1.0)`; each returns a tree like its first argument.

- Sets of vectors treat the tree as one vector, with the leaves in the order of `jax.tree.leaves`.
- Sets of matrices treat every leaf as a stack of matrices in its last two axes, and project each matrix separately.

Arithmetic is in float32 or wider for all dtypes. Forward and reverse derivatives are those of the projection as a
function of the tree and of the set's data. At a kink they are one of the one-sided limits, and they are always
finite.
"""
