"""The module `optax.assignment`."""

from gradtx.assignment import hungarian_algorithm as hungarian_algorithm

base_hungarian_algorithm = hungarian_algorithm
"""The one algorithm of gradtx, under the name of a second one that optax has."""
