"""The module `optax.assignment`."""
