"""The module `optax.tree`."""
