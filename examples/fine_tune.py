"""Fine-tunes a network: frozen embedding, smaller learning rates for the layers near the input, a new head.

    python examples/fine_tune.py

A perceptron is trained to classify the digits 0 to 4, and then fine-tuned with 100 images of the digits 5 to 9. The
first layer is frozen and has no state; the second layer has a quarter of the learning rate of the head. The program
prints which layers are trained with which settings, how far each layer moved, and the accuracy on held-out images of 5
to 9.
"""

import argparse

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import gradtx as gx


def init_params(key):
    shapes = {"first": (64, 64), "second": (64, 64), "head": (64, 5)}
    keys = jax.random.split(key, 3)
    return {
        name: {"kernel": jax.random.normal(k, shape) / shape[0] ** 0.5, "bias": jnp.zeros(shape[1])}
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def logits(params, images):
    x = images
    for name in ("first", "second"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["head"]["kernel"] + params["head"]["bias"]


def loss_of(params, images, labels):
    return gx.losses.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def train(tx, params, images, labels, steps):
    @jax.jit
    def step(carry, _):
        params, state = carry
        grads = jax.grad(loss_of)(params, images, labels)
        updates, state = tx.update(grads, state, params)
        return (gx.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    return params


def depth(path):
    """Returns the distance of a layer from the output; the learning rate is multiplied by 0.25 for each unit."""
    return 0 if path.startswith("head") else 1


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args(argv).steps

    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images, jnp.float32) / 16
    old, new = images[labels < 5], images[labels >= 5]
    old_labels, new_labels = labels[labels < 5], labels[labels >= 5] - 5

    start = train(gx.adamw(0.01), init_params(jax.random.key(0)), old, old_labels, steps)
    start["head"] = init_params(jax.random.key(1))["head"]

    tx = gx.selective_transform(
        gx.layerwise_lr_decay(gx.adamw(0.01), depth, decay=0.25), freeze_mask=gx.select.path("first/*")
    )
    print(gx.describe(tx, start))
    params = train(tx, start, new[:100], new_labels[:100], steps)

    moved = {name: float(gx.tree.norm(gx.tree.sub(params[name], start[name]))) for name in params}
    right = float((logits(params, new[100:]).argmax(axis=1) == new_labels[100:]).mean())
    print("moved:", ", ".join(f"{name} {distance:.3f}" for name, distance in moved.items()))
    print(f"accuracy on {len(new) - 100} held-out images {right:.1%}")
    return moved, right


if __name__ == "__main__":
    main()
