"""Twelve small constrained problems, typed from W. Hock and K. Schittkowski, 1981, "Test Examples for Nonlinear
Programming Codes", Lecture Notes in Economics and Mathematical Systems 187: the loss, the constraints including bounds
(written as <= 0 and == 0), the starting point and the value at the solution.
"""

import jax.numpy as jnp

PROBLEMS = {
    6: (
        lambda x: (1 - x[0]) ** 2,
        None,
        lambda x: 10 * (x[1] - x[0] ** 2),
        [-1.2, 1.0],
        0.0,
    ),
    7: (
        lambda x: jnp.log(1 + x[0] ** 2) - x[1],
        None,
        lambda x: (1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4,
        [2.0, 2.0],
        -(3.0**0.5),
    ),
    21: (
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        lambda x: (10 + x[1] - 10 * x[0], jnp.asarray([2.0, -50]) - x, x - 50),
        None,
        [-1.0, -1.0],
        -99.96,
    ),
    26: (
        lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
        None,
        lambda x: (1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3,
        [-2.6, 2.0, 2.0],
        0.0,
    ),
    28: (
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
        None,
        lambda x: x[0] + 2 * x[1] + 3 * x[2] - 1,
        [-4.0, 1.0, 1.0],
        0.0,
    ),
    35: (
        lambda x: (
            9 - 8 * x[0] - 6 * x[1] - 4 * x[2] + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2 + 2 * x[0] * (x[1] + x[2])
        ),
        lambda x: (x[0] + x[1] + 2 * x[2] - 3, -x),
        None,
        [0.5, 0.5, 0.5],
        1 / 9,
    ),
    39: (
        lambda x: -x[0],
        None,
        lambda x: (x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2),
        [2.0, 2.0, 2.0, 2.0],
        -1.0,
    ),
    40: (
        lambda x: -jnp.prod(x),
        None,
        lambda x: (x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]),
        [0.8, 0.8, 0.8, 0.8],
        -0.25,
    ),
    43: (
        lambda x: x @ (jnp.asarray([1.0, 1, 2, 1]) * x) + x @ jnp.asarray([-5.0, -5, -21, 7]),
        lambda x: (
            x @ x + x @ jnp.asarray([1.0, -1, 1, -1]) - 8,
            x @ (jnp.asarray([1.0, 2, 1, 2]) * x) - x[0] - x[3] - 10,
            x @ (jnp.asarray([2.0, 1, 1, 0]) * x) + 2 * x[0] - x[1] - x[3] - 5,
        ),
        None,
        [0.0, 0.0, 0.0, 0.0],
        -44.0,
    ),
    48: (
        lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
        None,
        lambda x: (jnp.sum(x) - 5, x[2] - 2 * (x[3] + x[4]) + 3),
        [3.0, 5.0, -3.0, 2.0, -2.0],
        0.0,
    ),
    71: (
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        lambda x: (25 - jnp.prod(x), 1 - x, x - 5),
        lambda x: x @ x - 40,
        [1.0, 5.0, 5.0, 1.0],
        17.0140173,
    ),
    76: (
        lambda x: (
            x @ (jnp.asarray([1.0, 0.5, 1, 0.5]) * x) - x[0] * x[2] + x[2] * x[3] + x @ jnp.asarray([-1.0, -3, 1, -1])
        ),
        lambda x: (
            x[0] + 2 * x[1] + x[2] + x[3] - 5,
            3 * x[0] + x[1] + 2 * x[2] - x[3] - 4,
            1.5 - x[1] - 4 * x[2],
            -x,
        ),
        None,
        [0.5, 0.5, 0.5, 0.5],
        -4.681818181,
    ),
}
"""By number in the book: loss, inequality, equality, start, value."""
