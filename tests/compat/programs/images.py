"""A residual network for handwritten digits, written in plain JAX with optax.

Gradients of two micro-batches are averaged and clipped; biases and scales are not decayed; the learning rate warms up
and falls along a cosine; labels are smoothed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

CHANNELS = 6
BLOCKS = 2
CLASSES = 10
BATCH = 24
STEPS = 120


def data(dtype):
    digits = load_digits()
    images = (digits.images[..., None] / 16 - 0.5).astype(dtype)
    return images, digits.target.astype(np.int32)


def init(dtype):
    rng = np.random.default_rng(0)

    def kernel(*shape):
        return jnp.asarray(rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])), dtype)

    def norm():
        return {"scale": jnp.ones(CHANNELS, dtype), "bias": jnp.zeros(CHANNELS, dtype)}

    def block():
        first, second = kernel(3, 3, CHANNELS, CHANNELS), kernel(3, 3, CHANNELS, CHANNELS) * 0.5
        return {"first": first, "norm1": norm(), "second": second, "norm2": norm()}

    return {
        "stem": kernel(3, 3, 1, CHANNELS),
        "blocks": [block() for _ in range(BLOCKS)],
        "head": {"kernel": kernel(64 * CHANNELS, CLASSES), "bias": jnp.zeros(CLASSES, dtype)},
    }


def convolved(x, kernel, stride=1):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def normalized(x, norm):
    mean = x.mean((1, 2), keepdims=True)
    variance = ((x - mean) ** 2).mean((1, 2), keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-3) * norm["scale"][None, None, None] + norm["bias"][None, None, None]


def logits(params, x):
    x = convolved(x, params["stem"])
    for block in params["blocks"]:
        y = jax.nn.relu(normalized(convolved(x, block["first"]), block["norm1"]))
        y = normalized(convolved(y, block["second"]), block["norm2"])
        x = jax.nn.relu(x + y)
    return x.reshape(len(x), -1) @ params["head"]["kernel"] + params["head"]["bias"][None]


def loss(params, images, labels):
    scores = logits(params, images)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES, dtype=scores.dtype), 0.1)
    return optax.softmax_cross_entropy(scores, targets).mean()


def matrices(params):
    """Selects the parameters with weight decay."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def optimizer(steps, dtype):
    rate = optax.warmup_cosine_decay_schedule(
        0.0, 0.1, warmup_steps=max(steps // 24, 1), decay_steps=steps // 2, end_value=0.001
    )
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.masked(optax.add_decayed_weights(5e-4), matrices),
        optax.sgd(rate, momentum=0.9, nesterov=True),
    )
    return optax.MultiSteps(tx, every_k_schedule=2, accumulator_dtype=dtype)


def run(dtype, steps=STEPS):
    """Returns the loss of every micro-batch, then the fraction of digits that are recognized."""
    images, labels = data(dtype)
    params, tx = init(dtype), optimizer(steps, dtype)
    state = tx.init(params)

    @jax.jit
    def step(params, state, x, y):
        value, grads = jax.value_and_grad(loss)(params, x, y)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    rng, losses = np.random.default_rng(1), []
    for _ in range(steps):
        batch = rng.integers(len(images), size=BATCH)
        params, state, value = step(params, state, images[batch], labels[batch])
        losses.append(float(value))
    assert int(state.gradient_step) == steps // 2
    found = jnp.argmax(logits(params, images[:500]), axis=-1)
    return [*losses, float((found == labels[:500]).mean())]
