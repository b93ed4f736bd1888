"""CTC equals a sum over all alignments, and the chunked cross entropy equals the ordinary cross entropy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx as gx

L = gx.losses
PLAIN, CHUNKED = L.softmax_cross_entropy_with_integer_labels, L.chunked_softmax_cross_entropy_with_integer_labels


def read(alignment, blank):
    """Reads an alignment: merges repetitions, then removes blanks."""
    return [k for k, _ in itertools.groupby(alignment) if k != blank]


def by_hand(logits, labels, blank):
    """Returns the probability that frames read as labels, and of each number of labels read after each frame."""
    frames, classes = logits.shape
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total = 0.0
    ends = np.zeros((2, frames, len(labels) + 1))
    for t in range(1, frames + 1):
        for alignment in itertools.product(range(classes), repeat=t):
            said = read(alignment, blank)
            p = np.exp(log_p[np.arange(t), alignment].sum())
            if said == labels[: len(said)]:
                ends[int(alignment[-1] != blank), t - 1, len(said)] += p
            total += p * (t == frames and said == labels)
    return total, ends


@pytest.mark.one_in(6)
@pytest.mark.parametrize(("labels", "blank"), [([1, 2], 0), ([1, 1], 0), ([2, 2, 0], 1), ([], 0), ([2], 0)])
def test_ctc_is_the_sum_over_alignments(labels, blank):
    rng = np.random.default_rng(5)
    frames, classes, room = 5, 3, 3
    logits = rng.normal(size=(1, frames + 1, classes))
    logits[0, -1] = np.nan  # padding
    padded = np.array([labels + [-7] * (room - len(labels))])
    off, missing = np.eye(1, frames + 1, frames), (np.arange(room) >= len(labels))[None] * 1.0
    given = (logits, off, padded, missing)
    loss, ends_blank, ends_label = L.ctc_loss_with_forward_probs(*given, blank_id=blank)
    total, ends = by_hand(logits[0, :-1], labels, blank)
    np.testing.assert_allclose(loss[0], -np.log(total), rtol=1e-12)
    np.testing.assert_allclose(L.ctc_loss(*given, blank_id=blank), loss, rtol=1e-14)
    n = len(labels) + 1
    np.testing.assert_allclose(np.exp(ends_blank[: frames - 1, 0, :n]), ends[0, :-1], rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(np.exp(ends_label[:frames, 0, : n - 1]), ends[1, :, 1:], rtol=1e-12, atol=1e-300)
    last = ends[0, -1] + ends[1, -1]
    np.testing.assert_allclose(np.exp(ends_blank[-1, 0, :n]), last, rtol=1e-12, atol=1e-300)

    grad = jax.grad(lambda x: L.ctc_loss(x, *given[1:], blank_id=blank)[0])(jnp.asarray(logits))
    assert (grad[0, -1] == 0).all()
    step = rng.normal(size=logits.shape)
    h = 1e-6
    rise = [np.log(by_hand((logits + s * h * step)[0, :-1], labels, blank)[0]) for s in (-1, 1)]
    np.testing.assert_allclose(np.vdot(grad[0, :-1], step[0, :-1]), (rise[0] - rise[1]) / (2 * h), rtol=1e-6)


@pytest.mark.heavy
def test_labels_that_do_not_fit_have_a_large_loss_and_a_derivative():
    value, grad = jax.value_and_grad(
        lambda x: L.ctc_loss(x, jnp.zeros((1, 2)), jnp.array([[1, 1]]), jnp.zeros((1, 2)))[0]
    )(jnp.zeros((1, 2, 3)))
    assert 9e4 < value < 1.1e5
    assert np.isfinite(grad).all()


GIVEN = (jnp.zeros((2, 3, 4)), jnp.zeros((2, 3)), jnp.ones((2, 2), int), jnp.zeros((2, 2)))
CALLS = {
    "labels must be in": lambda: L.ctc_loss(*GIVEN[:2], jnp.array([[1, 4], [1, 1]]), GIVEN[3]),
    "among its labels": lambda: L.ctc_loss(*GIVEN[:2], jnp.array([[1, 0], [1, 1]]), GIVEN[3]),
    "zeros followed by ones": lambda: L.ctc_loss(*GIVEN[:3], jnp.array([[1, 0], [0, 0]])),
    r"blank_id must be in \[0, 4\)": lambda: L.ctc_loss(*GIVEN, blank_id=4),
    "log_epsilon must be in": lambda: L.ctc_loss(*GIVEN, log_epsilon=0.0),
    r"logit_paddings has shape \(2, 2\) and logits has": lambda: L.ctc_loss(GIVEN[0], jnp.zeros((2, 2)), *GIVEN[2:]),
    r"labels has shape \(1, 2\) and logits has": lambda: L.ctc_loss(*GIVEN[:2], jnp.ones((1, 2), int), GIVEN[3]),
    r"label_paddings has shape \(2, 3\) and labels": lambda: L.ctc_loss(*GIVEN[:3], jnp.zeros((2, 3))),
}


@pytest.mark.parametrize("message", CALLS)
def test_what_ctc_refuses(message):
    with pytest.raises(ValueError, match=message):
        CALLS[message]()


def test_traced_labels_that_are_wrong_give_nan():
    labels = jnp.array([[1, 4], [1, 0], [1, -1], [1, 2], [3, 9]])
    missing = jnp.zeros((5, 2)).at[4, 1].set(1)
    loss = jax.jit(L.ctc_loss)(jnp.zeros((5, 3, 4)), jnp.zeros((5, 3)), labels, missing)
    np.testing.assert_array_equal(jnp.isnan(loss), [True, True, True, False, False])


# --- The cross entropy in chunks.

SETTINGS = [
    {},
    {"label_smoothing": 0.1},
    {"ignore_label": -100},
    {"class_weights": True, "label_smoothing": 0.2, "ignore_label": 3},
]


def head(words=37, dtype=jnp.float64, n=8):
    rng = np.random.default_rng(7)
    x, w = rng.normal(size=(3, 5, n)), rng.normal(size=(words, n))
    labels = rng.integers(0, words, (3, 5))
    return jnp.asarray(x, dtype), jnp.asarray(w, dtype), jnp.asarray(labels)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("chunk_size", [1, 10, 37, 100])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: "-".join(s) or "plain")
def test_chunks_are_the_plain_loss(setting, chunk_size):
    x, w, labels = head()
    kwargs = dict(setting)
    if "class_weights" in kwargs:
        kwargs["class_weights"] = jnp.linspace(0.0, 2.0, len(w))
    if "ignore_label" in kwargs:
        labels = labels.at[0, 2].set(kwargs["ignore_label"])
        x = x.at[0, 2].set(jnp.nan)
    weights = jnp.cos(jnp.arange(15.0)).reshape(3, 5)

    def plain(x, w):
        return jnp.sum(weights * PLAIN(jnp.where(jnp.isnan(x), 0, x) @ w.T, labels, **kwargs))

    def chunked(x, w):
        return jnp.sum(weights * CHUNKED(x, w, labels, chunk_size=chunk_size, **kwargs))

    ours, theirs = (jax.jit(jax.value_and_grad(f, (0, 1)))(x, w) for f in (chunked, plain))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.heavy
def test_chunks_in_forward_mode_vmap_and_twice():
    x, w, labels = head()
    fns = [lambda x, w: CHUNKED(x, w, labels, chunk_size=10).mean(), lambda x, w: PLAIN(x @ w.T, labels).mean()]
    steps = (jnp.cos(x), jnp.sin(w))
    forward, twice = [], []
    for fn in fns:
        forward.append(jax.jvp(fn, (x, w), steps)[1])
        twice.append(jax.jvp(jax.grad(fn, (0, 1)), (x, w), steps)[1])
    np.testing.assert_allclose(*forward, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), *twice)
    mapped = jax.vmap(lambda x, y: CHUNKED(x, w, y, chunk_size=10))(x, labels)
    np.testing.assert_allclose(mapped, PLAIN(x @ w.T, labels), rtol=1e-12)


@pytest.mark.heavy
def test_chunks_in_sixteen_bits_sum_in_float32():
    x, w, labels = head(dtype=jnp.bfloat16)
    value, grads = jax.value_and_grad(
        lambda x, w: CHUNKED(x, w, labels, chunk_size=4).astype(jnp.float32).mean(), (0, 1)
    )(x, w)
    exact, slopes = jax.value_and_grad(lambda x, w: PLAIN(x @ w.T, labels).mean(), (0, 1))(
        *(a.astype(float) for a in (x, w))
    )
    assert CHUNKED(x, w, labels).dtype == jnp.bfloat16
    np.testing.assert_allclose(value, exact, rtol=1e-2)
    for a, b in zip(grads, slopes, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(float), b, rtol=2e-2, atol=2e-3 * float(jnp.max(jnp.abs(b))))


def test_what_chunks_refuse():
    x, w, labels = head()
    with pytest.raises(ValueError, match="labels must be in \\[0, 37\\), got 37 at index 1, 2"):
        CHUNKED(x, w, labels.at[1, 2].set(37))
    with pytest.raises(ValueError, match="embedding has shape \\(8, 37\\) and features has shape"):
        CHUNKED(x, w.T, labels)
    with pytest.raises(ValueError, match="labels has shape \\(3, 4\\)"):
        CHUNKED(x, w, labels[:, :4])
    with pytest.raises(ValueError, match="chunk_size must be an integer of at least 1"):
        CHUNKED(x, w, labels, chunk_size=0)
    loss = jax.jit(CHUNKED)(x, w, labels.at[1, 2].set(37))
    assert np.argwhere(np.isnan(loss)).tolist() == [[1, 2]]


def test_memory_of_a_language_models_head():
    """4,096 tokens and 32,768 words: at most an eighth of the temporary memory, as the compiler plans it."""
    tokens, words, n = 4096, 32768, 256
    shapes = [
        jax.ShapeDtypeStruct(s, d) for s, d in (((tokens, n), "float32"), ((words, n), "float32"), ((tokens,), "int32"))
    ]
    plain, chunked = (
        jax.jit(jax.value_and_grad(fn, (0, 1))).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
        for fn in (lambda x, w, y: PLAIN(x @ w.T, y).mean(), lambda x, w, y: CHUNKED(x, w, y).mean())
    )
    assert plain >= 4 * tokens * words
    assert 8 * chunked <= plain
