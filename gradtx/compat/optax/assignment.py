"""The module `optax.assignment`."""

from gradtx.assignment import hungarian_algorithm as hungarian_algorithm

base_hungarian_algorithm = hungarian_algorithm
"""Another name of gradtx's only assignment algorithm, because optax has two algorithms."""
