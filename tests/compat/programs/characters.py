"""A transformer that learns to continue a text, character by character, written in plain JAX with optax.

The embedding has a learning rate of its own; the rest is AdamW whose hyperparameters are in the state, so that they can
be logged and lowered by hand; steps that are not finite are skipped; a moving average of the parameters is evaluated.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

TEXT = """The gradient points uphill, and we go the other way. A step too long overshoots the valley; a step too short
takes all day. Momentum carries us over small bumps, and a second moment tells steep walls from gentle slopes. When the
loss stops falling, halve the rate. When it rises, look at the data first. """
WIDTH, HEADS, LAYERS, CONTEXT = 16, 2, 2, 24
BATCH = 16
STEPS = 50


def init(dtype, vocabulary):
    rng = np.random.default_rng(0)

    def matrix(rows, columns):
        return jnp.asarray(rng.normal(size=(rows, columns)) / np.sqrt(rows), dtype)

    def layer():
        return {
            "norm1": jnp.ones(WIDTH, dtype),
            "qkv": matrix(WIDTH, 3 * WIDTH),
            "out": matrix(WIDTH, WIDTH),
            "norm2": jnp.ones(WIDTH, dtype),
            "up": matrix(WIDTH, 4 * WIDTH),
            "bias": jnp.zeros(4 * WIDTH, dtype),
            "down": matrix(4 * WIDTH, WIDTH),
        }

    return {
        "embed": {"tokens": matrix(vocabulary, WIDTH), "places": matrix(CONTEXT, WIDTH)},
        "layers": [layer() for _ in range(LAYERS)],
        "head": matrix(WIDTH, vocabulary),
    }


def normalized(x, scale):
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale[None]


def attended(x, layer):
    q, k, v = jnp.split(x @ layer["qkv"], 3, axis=-1)
    q, k, v = (t.reshape(CONTEXT, HEADS, -1).swapaxes(0, 1) for t in (q, k, v))
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    future = jnp.triu(jnp.full((CONTEXT, CONTEXT), -1e9, x.dtype), 1)
    mixed = jax.nn.softmax(scores + future[None], axis=-1) @ v
    return mixed.swapaxes(0, 1).reshape(CONTEXT, WIDTH) @ layer["out"]


def logits(params, tokens):
    x = params["embed"]["tokens"][tokens] + params["embed"]["places"]
    for layer in params["layers"]:
        x = x + attended(normalized(x, layer["norm1"]), layer)
        inside = jax.nn.gelu(normalized(x, layer["norm2"]) @ layer["up"] + layer["bias"][None])
        x = x + inside @ layer["down"]
    return x @ params["head"]


def loss(params, windows):
    scores = jax.vmap(lambda tokens: logits(params, tokens))(windows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(scores, windows[:, 1:]).mean()


def decayed(params):
    return jax.tree.map(lambda p: p.ndim > 1, params)


def optimizer(steps):
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, warmup_steps=5, decay_steps=steps, end_value=1e-4)
    adamw = optax.inject_hyperparams(optax.adamw, static_args="mask")
    rest = adamw(learning_rate=rate, b2=0.99, weight_decay=1e-2, mask=decayed)
    groups = {"embed": optax.adam(optax.linear_schedule(2e-2, 0.0, steps)), "rest": rest}
    labels = {"embed": "embed", "layers": "rest", "head": "rest"}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.multi_transform(groups, labels))
    return optax.apply_if_finite(tx, max_consecutive_errors=3)


def run(dtype, steps=STEPS):
    """Returns the loss and the learning rate of every step, then the loss of the averaged parameters."""
    letters = sorted(set(TEXT))
    text = np.asarray([letters.index(c) for c in TEXT], np.int32)
    params, tx = init(dtype, len(letters)), optimizer(steps)
    state, average = tx.init(params), params

    @jax.jit
    def step(params, average, state, windows, poison):
        value, grads = jax.value_and_grad(loss)(params, windows)
        grads = jax.tree.map(lambda g: g + poison.astype(g.dtype), grads)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, optax.incremental_update(params, average, 0.1), state, value

    rng, seen = np.random.default_rng(1), []
    for i in range(steps):
        starts = rng.integers(len(text) - CONTEXT - 1, size=BATCH)
        windows = np.stack([text[s : s + CONTEXT + 1] for s in starts])
        poison = jnp.asarray(np.nan if i == 20 else 0.0)
        params, average, state, value = step(params, average, state, windows, poison)
        injected = state.inner_state[1].inner_states["rest"].inner_state
        seen += [float(value), float(injected.hyperparams["learning_rate"])]
    assert int(state.total_notfinite) == 1
    return [*seen, float(loss(average, windows)), float(optax.tree.norm(params))]
