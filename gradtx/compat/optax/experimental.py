"""The module `optax.experimental`."""
