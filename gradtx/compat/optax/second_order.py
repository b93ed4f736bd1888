"""The module `optax.second_order`."""

from __future__ import annotations
