"""The module `optax.perturbations`."""
