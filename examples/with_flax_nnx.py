"""Trains a small convolutional network of flax nnx on scikit-learn's handwritten digits.

    python examples/with_flax_nnx.py

You can pass a gradtx transformation to `nnx.Optimizer` unchanged. The program prints the accuracy on held-out images.
"""

import argparse

import jax
import jax.numpy as jnp
from flax import nnx
from sklearn.datasets import load_digits

import gradtx as gx


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 16, kernel_size=(3, 3), strides=2, rngs=rngs)
        self.hidden = nnx.Linear(16 * 4 * 4, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.conv(images)).reshape(len(images), -1)
        return self.out(nnx.relu(self.hidden(x)))


def loss_of(model, images, labels):
    return gx.losses.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def train_step(model, optimizer, images, labels):
    loss, grads = nnx.value_and_grad(loss_of)(model, images, labels)
    optimizer.update(model, grads)
    return loss


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args(argv).steps

    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images, jnp.float32).reshape(-1, 8, 8, 1) / 16
    test = slice(1400, None)  # the images before these are for training

    model = Network(nnx.Rngs(0))
    schedule = gx.warmup_cosine_decay_schedule(0.0, 0.01, warmup_steps=steps // 10, decay_steps=steps)
    tx = gx.chain(gx.clip_by_global_norm(1.0), gx.adamw(schedule, mask=gx.select.path("**/kernel")))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    for step in range(steps):
        rows = jax.random.choice(jax.random.key(step), 1400, (64,))
        loss = train_step(model, optimizer, images[rows], labels[rows])
    right = (model(images[test]).argmax(axis=1) == labels[test]).mean()
    print(f"loss of the last batch {loss:.4f}, accuracy on {len(labels[test])} held-out images {right:.1%}")
    return float(right)


if __name__ == "__main__":
    main()
