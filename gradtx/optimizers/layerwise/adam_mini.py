"""Adam-mini: a variant of Adam with one second moment for each block of a tensor.

    m_t = b1 * m_(t-1) + (1 - b1) * g_t
    v_t = b2 * v_(t-1) + (1 - b2) * mean of |g_t|^2 over the block
    u_t = (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps)

Zhang et al., 2024, "Adam-mini: Use Fewer Learning Rates To Gain More", algorithm 1. A block is the weights of one token
in an embedding or in the last layer, of one attention head in queries or keys, or of one output neuron in any other
matrix. A vector is one block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gradtx import checks, leaf, select
from gradtx.core import mask as masks
from gradtx.core.chain import chain
from gradtx.core.constructor import constructor
from gradtx.core.hyper import Hyper, HyperArg, hyper
from gradtx.core.leafwise import Layerwise, Shared
from gradtx.core.partition import partition
from gradtx.core.slots import average_weights, counter, per_param, reduced
from gradtx.core.value import Value, dtype, static
from gradtx.transforms.decay import decoupled_weight_decay
from gradtx.types import Params

__all__ = ["AdamMiniState", "adam_mini", "adam_mini_labels", "scale_by_adam_mini"]

_TOKENS = select.maybe(select.regex(r"(?i)(^|[/_.])(embed(der|ding|dings|_tokens)?|wte|wpe)([_.]?\d+)?($|/)"))


class AdamMiniState(NamedTuple):
    """The state of `scale_by_adam_mini`.

    `count`: the number of steps taken. `mu`: the first moment. `nu`: the second moment, one number per block.
    `weights`: for each decay rate that is a schedule, the divisor of the bias correction, which is 1 minus the product
    of the decay rates of all steps so far; empty if no decay rate is a schedule.
    """

    count: Array = counter()
    mu: Array = per_param(dtype="mu_dtype")
    nu: Array = reduced(over="averaged", keepdims=True, real=True, signed=False)
    weights: dict[str, Array] = average_weights()


def _check_axes(who: str, name: str, value: Any) -> tuple[int, ...]:
    axes = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(checks.integer(who, name, axis, ge=-16) for axis in axes)


class scale_by_adam_mini(Layerwise, state=AdamMiniState, corrected=("b1", "b2")):
    """Divides the first moment by the square root of a second moment that all entries of a block have in common.

    This is `adam_mini` without learning rate and weight decay:

        u = m_hat / (sqrt(v_hat) + eps),    v: moving average of the mean of |g|^2 over the block

    Args:
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment, one number per block; a value closer to 1 averages over more steps. In
        [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      block_axes: The axis or axes that index the blocks; -1 (default) makes every output neuron a block, and () makes
        each tensor one block. Vectors and scalars are always one block.

    State: one array per parameter (4 bytes per entry in float32), and one number per block.

    Raises:
      ValueError: `init` finds a tensor with two or more axes that does not have the axes `block_axes`.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.scale_by_adam_mini()
    >>> g = jnp.array([[1.0, 10.0], [-1.0, 0.0]])
    >>> print(tx.update(g, tx.init(g))[0].round(3))
    [[ 1.     1.414]
     [-1.     0.   ]]
    """

    b1: Hyper = hyper(default=0.9, ge=0, lt=1)
    b2: Hyper = hyper(default=0.999, ge=0, lt=1)
    eps: Hyper = hyper(default=1e-8, ge=0)
    mu_dtype: Any = dtype(default=None)
    block_axes: Any = static(default=(-1,), check=_check_axes, kw_only=True)

    def averaged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the axes that belong to the same block."""
        n = len(shape)
        if n < 2:
            return tuple(range(n))
        if not all(-n <= axis < n for axis in self.block_axes):
            raise ValueError(
                f"scale_by_adam_mini: a tensor of shape {shape} does not have the axes block_axes={self.block_axes}. "
                "Use gx.partition to give such tensors a different optimizer."
            )
        kept = {axis % n for axis in self.block_axes}
        return tuple(axis for axis in range(n) if axis not in kept)

    def at_step(self, t: Array, numbers: Any) -> tuple[Any, Any]:
        corrections = self.debias("b1", t, numbers)
        return Shared(corrections=corrections, grow_nu=1 / self.weight("b2", t, numbers)), self.weighed(numbers)

    def update_leaf(self, g: Array, slots: Any, p: Any, shared: Any) -> tuple[Array, Any]:
        axes = self.averaged(g.shape)
        size = max(g.size // max(slots.nu.size, 1), 1)
        mu = leaf.moment(slots.mu, g, self.b1)
        nu = leaf.moment(slots.nu, jnp.sum(leaf.abs_sq(g) / size, axis=axes, keepdims=True), self.b2)
        root = leaf.root(nu * shared.grow_nu) + self.eps
        return leaf.debiased_ratio(mu, g, root, shared.corrections), slots._replace(mu=mu, nu=nu)


class adam_mini_labels(Value):
    """Labels the parameters with the groups of `adam_mini`: 'tokens', 'heads' or 'outputs'.

    Args:
      tokens: Which leaves are embeddings, in which each token is a block: a selector or a mask. By default leaves with
        names such as embedding, embed, wte and wpe.
      heads: Which leaves are query and key kernels of shape (model, heads, size), in which each head is a block; none
        by default.
      mask: The mask of the weight decay. It does not change the labels; it is passed only so that a mask that does not
        match the whole tree of parameters raises an error.

    >>> import gradtx as gx
    >>> gx.adam_mini_labels(heads=gx.select.path("query"))({"wte": 1.0, "query": 2.0, "out": 3.0})
    {'out': 'outputs', 'query': 'heads', 'wte': 'tokens'}
    """

    tokens: Any = static(default=_TOKENS, check=masks.check)
    heads: Any = static(default=None, check=masks.check)
    mask: Any = static(default=None, check=masks.check)

    def __call__(self, params: Params) -> Any:
        masks.selected("adam_mini", self.mask, params)  # raises if the mask does not match the tree or selects nothing
        labels = ["outputs"] * len(jax.tree.leaves(params))
        for name in ("heads", "tokens"):
            mask = getattr(self, name)
            picked = labels if mask is None else masks.each("adam_mini", mask, params)
            labels = [name if yes is True else label for yes, label in zip(picked, labels, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(params), labels)


@constructor
def adam_mini(
    learning_rate: HyperArg,
    b1: HyperArg = 0.9,
    b2: HyperArg = 0.999,
    eps: HyperArg = 1e-8,
    mu_dtype: Any = None,
    weight_decay: HyperArg = 0.0,
    mask: Any = None,
    *,
    tokens: Any = _TOKENS,
    heads: Any = None,
    decouple_lr: bool = False,
) -> partition:
    """Runs Adam-mini, a variant of Adam with half of Adam's memory, with decoupled weight decay.

    Use it in place of AdamW, with the same hyperparameters, when memory is short. All entries of a block share one
    second moment v (Zhang et al., 2024, "Adam-mini: Use Fewer Learning Rates To Gain More", algorithm 1):

        p <- p - learning_rate * (m_hat / (sqrt(v_hat) + eps) + weight_decay * p)

    The axis that indexes the blocks is the first axis of embeddings, the second-to-last axis of queries and keys, and
    the last axis of all other parameters. A vector is one block.

    Args:
      learning_rate: Step size: a number, or a schedule (a function of the step count). Not negative.
      b1: Decay rate of the first moment (the moving average of the gradient); a value closer to 1 averages over more
        steps. In [0, 1); default 0.9 (about the last 10 steps).
      b2: Decay rate of the second moment, one number per block; a value closer to 1 averages over more steps. In
        [0, 1); default 0.999.
      eps: Added to the denominator for numerical stability. Not negative; default 1e-8 (a larger value, such as 1e-6,
        makes smaller updates where gradients are tiny).
      mu_dtype: Dtype in which the first moment is stored, such as `jnp.bfloat16` to save memory; by default the
        parameter's dtype, but at least float32.
      weight_decay: Strength of the decoupled weight decay: each step also subtracts `learning_rate * weight_decay *
        params` from the parameters. Not negative; default 0 (no decay).
      mask: Which parameters to decay: a selector such as `gx.select.ndim(min=2)`, a tree of booleans with the structure
        of the parameters, or a function that takes the parameters and returns such a tree; by default all parameters,
        although biases and norm scales are usually left out.
      tokens: Which leaves are embeddings, in which each token is a block: a selector or a mask. By default leaves with
        names such as embedding, embed, wte and wpe.
      heads: Which leaves are query and key kernels of shape (model, heads, size), in which each head is a block; none
        by default.
      decouple_lr: Whether the weight decay is independent of the learning rate: each step then subtracts `weight_decay
        * params` instead of `learning_rate * weight_decay * params`. Default False.

    Returns:
      A transformation, a partition into 'tokens', 'heads' and 'outputs', whose `update` needs `params`. State: one
      array per parameter (4 bytes per entry in float32), and one number per block.

    >>> import jax.numpy as jnp, gradtx as gx
    >>> tx = gx.adam_mini(1e-3, heads=gx.select.path("**/query/kernel"))
    >>> params = {"embed": jnp.ones((9, 4)), "query": {"kernel": jnp.ones((4, 2, 2))}, "out": jnp.ones((4, 9))}
    >>> tx.param_labels(params)
    {'embed': 'tokens', 'out': 'outputs', 'query': {'kernel': 'heads'}}
    """
    labels, mask = adam_mini_labels(tokens, heads, mask), masks.in_group(mask)

    def group(axis: int) -> chain:
        rule = scale_by_adam_mini(b1, b2, eps, mu_dtype, block_axes=axis)
        return chain(rule, *decoupled_weight_decay(learning_rate, weight_decay, mask, decouple_lr=decouple_lr))

    groups = {"tokens": group(0), "heads": group(-2), "outputs": group(-1)}
    return partition(groups, labels)
