"""optax's names, for code that moves from optax to gradtx."""

from gradtx.compat.optax.convert import from_optax as from_optax
from gradtx.compat.optax.convert import to_optax as to_optax

__all__ = ["from_optax", "to_optax"]
