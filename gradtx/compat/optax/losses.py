"""The module `optax.losses`: gradtx's losses have its names and arguments."""

from gradtx.losses import *  # noqa: F403
from gradtx.losses import __all__ as __all__
