"""The module `optax.microbatching`."""
