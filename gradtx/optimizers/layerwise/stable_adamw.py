"""StableAdamW: AdamW whose rate is lowered in each tensor where the second moment is out of date.

    m_t, v_t as in Adam, with their corrections
    RMS_t = sqrt(mean(|g_t|^2 / max(v_t, eps^2)))            over the entries of the tensor
    eta_t = learning_rate_t / max(1, RMS_t)
    x_(t+1) = x_t - eta_t * (m_t / (sqrt(v_t) + eps) + weight_decay * x_t)

Wortsman et al., 2023, "Stable and low-precision training for large-scale vision-language models",
algorithm 2: the clipping of Shazeer and Stern's Adafactor in AdamW. As in the algorithm the lowered
rate is that of the decay too (so have it optimi and pytorch-optimizer; the first author's published
code decays at the full rate), which is why the decay belongs to the rule here.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from gradtx import leaf
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.mask import selection
from gradtx.core.value import dtype
from gradtx.optimizers.elementwise.adam import ScaleByAdamState
from gradtx.transforms.scale import scale_by_learning_rate
from gradtx.types import Mask, Slots

__all__ = ["scale_by_stable_adamw", "stable_adamw"]


class scale_by_stable_adamw(Layerwise, state=ScaleByAdamState, needs=("params",), corrected=("b1", "b2")):
    """The rule of StableAdamW, decay included, without the learning rate.

    `b1` (0.9) and `b2` (0.99) lie in [0, 1), `eps` (1e-6) and `weight_decay` (0) are not negative;
    `mask` selects the leaves that decay, as in `add_decayed_weights`. The first moment is kept in
    `mu_dtype`, by default the parameter's dtype but at least float32; the second is real.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_stable_adamw(b1=0.0, weight_decay=0.5)
    >>> p = jnp.ones(2)
    >>> _, state = tx.update(jnp.full(2, 0.001), tx.init(p), p)
    >>> updates, _ = tx.update(jnp.full(2, 1.0), state, p)  # a jump: RMS = sqrt(1.99) divides the decay too
    >>> print(updates.round(2))
    [1.35 1.35]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.99, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-6, ge=0)
    weight_decay: Hyper = hyper(default=0.0, ge=0)
    mask: Mask = selection()
    mu_dtype: Any = dtype(default=None)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        left, grow_nu = self.weight("b1", t, numbers), 1 / self.weight("b2", t, numbers)
        return Shared(left=left, grow_nu=grow_nu), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Slots, p: Any, shared: Any, *, mask: bool) -> tuple[Array, Any]:
        decay = self.weight_decay if mask else 0
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, leaf.abs_sq(g), self.b2)
        root = leaf.root(nu * shared.grow_nu)
        square = leaf.sum_sq(leaf.bounded(g) / jnp.maximum(root, self.eps)) / max(g.size, 1)
        lower = jnp.maximum(leaf.root(square), 1)
        return (mu / ((root + self.eps) * shared.left) + p * decay) / lower, slots._replace(mu=mu, nu=nu)


@constructor
def stable_adamw(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.99,
    eps: HyperArg = 1e-6,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.2,
    mask: Mask = None,
) -> chain:
    """StableAdamW, with weight decay on the leaves that `mask` selects (all by default).

    The defaults are the paper's, for CLIP models at rates up to 2e-3. State: two arrays per
    parameter. `update` needs params.

    >>> import gradtx as gx
    >>> gx.stable_adamw(2e-3)
    chain(
      scale_by_stable_adamw(b1=0.9, b2=0.99, eps=1e-06, weight_decay=0.2),
      scale_by_learning_rate(learning_rate=0.002),
    )
    """
    return chain(
        scale_by_stable_adamw(b1, b2, eps, weight_decay, mask, mu_dtype), scale_by_learning_rate(learning_rate)
    )
