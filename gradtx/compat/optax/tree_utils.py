"""The module `optax.tree_utils`."""
