"""The parameter trees of the benchmarks: nested dicts of shapes, and float32 arrays drawn for them.

    large      one leaf
    resnet50   ResNet-50 (He et al., 2015): 161 leaves, 25,557,032 parameters
    gpt2       GPT-2 (Radford et al., 2019) of any width: 148 leaves; width 768 has 124,439,808 parameters
    small      many leaves of 64 entries each
    matrix     one leaf of two axes
    few        two blocks of a convolution, a dense layer and their vectors

A shape is a `jax.ShapeDtypeStruct`, so a function can be traced for a tree of shapes without allocating memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ShapeTree = dict[str, Any]

_RESNET50_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # (blocks, width) of each stage
_GPT2_LAYERS, _GPT2_VOCABULARY, _GPT2_POSITIONS = 12, 50257, 1024


def large(entries: int = 2**24) -> ShapeTree:
    """Returns a tree with one large leaf."""
    return {"kernel": _shape(entries)}


def small(leaves: int = 1000) -> ShapeTree:
    """Returns a tree with many leaves of 64 entries each."""
    return {f"layer_{i:04}": {"bias": _shape(64)} for i in range(leaves)}


def resnet50() -> ShapeTree:
    """Returns the parameters of ResNet-50 with 1,000 classes: kernels without bias, each with a batch norm."""
    tree: ShapeTree = {"stem": _conv(7, 3, 64)}
    channels = 64
    for i, (blocks, width) in enumerate(_RESNET50_STAGES):
        for j in range(blocks):
            tree[f"stage_{i}_block_{j}"] = _bottleneck(channels, width, project=j == 0)
            channels = 4 * width
    tree["head"] = _dense(channels, 1000)
    return tree


def gpt2(width: int = 256) -> ShapeTree:
    """Returns the parameters of GPT-2 small with the given width; the output layer shares the token embedding."""
    tree: ShapeTree = {"wte": _shape(_GPT2_VOCABULARY, width), "wpe": _shape(_GPT2_POSITIONS, width)}
    for i in range(_GPT2_LAYERS):
        tree[f"h_{i}"] = {
            "ln_1": _norm(width),
            "attn": {"c_attn": _dense(width, 3 * width), "c_proj": _dense(width, width)},
            "ln_2": _norm(width),
            "mlp": {"c_fc": _dense(width, 4 * width), "c_proj": _dense(4 * width, width)},
        }
    tree["ln_f"] = _norm(width)
    return tree


def matrix(rows: int = 2048, columns: int = 1024) -> ShapeTree:
    """Returns a tree with one matrix."""
    return {"kernel": _shape(rows, columns)}


def few() -> ShapeTree:
    """Two blocks alike, of a convolution, a dense layer and their vectors, for what is only compiled.

    It has a leaf of every rank, and each twice: what leaves have in common, the compiler may compute once and keep.
    """
    return {name: {"conv": _conv(3, 64, 128), "dense": _dense(512, 1024)} for name in ("first", "second")}


def draw(shapes: ShapeTree, seed: int) -> Any:
    """Arrays of these shapes with normal entries of deviation 0.02, on the default device; `seed` decides them."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(0.02 * rng.standard_normal(s.shape, s.dtype)), shapes)


def _bottleneck(channels: int, width: int, *, project: bool) -> ShapeTree:
    block = {
        "conv_1": _conv(1, channels, width),
        "conv_2": _conv(3, width, width),
        "conv_3": _conv(1, width, 4 * width),
    }
    if project:
        block["shortcut"] = _conv(1, channels, 4 * width)
    return block


def _conv(size: int, channels: int, features: int) -> ShapeTree:
    return {"kernel": _shape(size, size, channels, features), "norm": _norm(features)}


def _norm(features: int) -> ShapeTree:
    return {"scale": _shape(features), "bias": _shape(features)}


def _dense(inputs: int, features: int) -> ShapeTree:
    return {"kernel": _shape(inputs, features), "bias": _shape(features)}


TREES: dict[str, Callable[[], ShapeTree]] = {"large": large, "resnet50": resnet50, "gpt2": gpt2, "small": small}
"""The trees that are timed."""


def _shape(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
