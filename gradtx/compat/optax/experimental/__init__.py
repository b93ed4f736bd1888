"""The module `optax.experimental`."""

from gradtx.compat.optax.experimental import aggregating as aggregating
