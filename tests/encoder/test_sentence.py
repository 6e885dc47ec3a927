from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lorameta.data import Example
from lorameta.encoder import SentenceEncoder
from lorameta.encoder.sentence import moments
from lorameta.errors import DataError, LorametaWarning, UsageError

ROWS = [Example(f"What comes after {i}?", (str(i + 1),)) for i in range(80)]
#: The first six coordinates that sentence-transformers 6.2.0 gives, and the cosine of the two.
GOLDEN = {
    "The sky is blue.": [0.017919, 0.013529, 0.042797, 0.016718, 0.029824, 0.005008],
    "What is the capital of France? Paris": [0.111919, 0.046162, 0.012846, -0.024109, 0.032469, -0.061924],
}
GOLDEN_COSINE = 0.049027


def test_embeddings_equal_those_of_sentence_transformers(sentence_encoder):
    embeddings = sentence_encoder.embed(list(GOLDEN))
    np.testing.assert_allclose(embeddings[:, :6], list(GOLDEN.values()), atol=1e-6)
    np.testing.assert_allclose(embeddings[0] @ embeddings[1], GOLDEN_COSINE, atol=1e-6)


def test_a_summary_holds_the_moments_of_unit_vectors(sentence_encoder):
    summary = sentence_encoder.encode(ROWS)
    assert summary.rows == 80
    assert summary.mean.shape == (384,)
    assert summary.covariance_factor.shape == (32, 384)
    assert summary.sample.shape == (64, 384)
    assert {array.dtype for array in (summary.mean, summary.covariance_factor, summary.sample)} == {np.dtype("float32")}
    np.testing.assert_allclose(np.linalg.norm(summary.sample, axis=1), 1, rtol=1e-6)
    # Of unit vectors, ‖mean‖² + tr covariance = 1.
    variance = np.square(summary.covariance_factor).sum() + summary.residual_variance
    assert np.square(summary.mean).sum() + variance == pytest.approx(1, abs=1e-6)
    assert not summary.has("tokens")


def test_order_and_seed(sentence_encoder):
    summary = sentence_encoder.encode(ROWS)
    turned = sentence_encoder.encode(ROWS[::-1])
    other = sentence_encoder.encode(ROWS, seed=1)
    for name in ("mean", "covariance_factor", "sample"):
        np.testing.assert_array_equal(getattr(turned, name), getattr(summary, name))
    np.testing.assert_array_equal(other.mean, summary.mean)
    assert not np.array_equal(other.sample, summary.sample)


def test_equal_rows_count_as_often_as_they_occur(sentence_encoder):
    twice = sentence_encoder.encode([ROWS[0], ROWS[1], ROWS[0]])
    first, second = sentence_encoder.embed([ROWS[0].text, ROWS[1].text])
    assert twice.rows == 3
    np.testing.assert_allclose(twice.mean, (2 * first + second) / 3, atol=1e-6)
    assert twice.sample.shape == (3, 384)


def test_one_row_has_no_variance(sentence_encoder):
    summary = sentence_encoder.encode(ROWS[:1])
    assert summary.residual_variance == 0.0
    assert not summary.covariance_factor.any()
    np.testing.assert_array_equal(summary.mean, summary.sample[0])


def test_large_datasets_are_represented_by_a_draw(sentence_encoder, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "max_rows", 10)
    summary = sentence_encoder.encode(ROWS)
    assert summary.rows == 80
    assert summary.sample.shape == (10, 384)
    np.testing.assert_allclose(summary.sample.mean(axis=0), summary.mean, atol=1e-6)


def test_what_cannot_be_embedded_is_refused(sentence_encoder):
    with pytest.raises(DataError, match="no rows"):
        sentence_encoder.encode([])
    with pytest.raises(UsageError, match="max_rows"):
        SentenceEncoder(max_rows=0)


clouds = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 7)),
    elements=st.floats(-1, 1, width=32, allow_subnormal=False),
)


@given(points=clouds)
def test_moments_equal_numpys(points):
    d = points.shape[1]
    mean, factor, residual = moments(points, d)
    covariance = np.cov(points.astype(np.float64), rowvar=False, bias=True).reshape(d, d)
    np.testing.assert_allclose(mean, points.astype(np.float64).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(factor.T @ factor, covariance, atol=2e-6)
    assert 0 <= residual < 1e-6


@given(points=clouds, rank=st.integers(1, 8))
def test_a_factor_of_low_rank_is_the_best(points, rank):
    d = points.shape[1]
    _, factor, residual = moments(points, rank)
    covariance = np.cov(points.astype(np.float64), rowvar=False, bias=True).reshape(d, d)
    assert factor.shape == (rank, d)
    assert np.square(factor).sum() + residual == pytest.approx(np.trace(covariance), abs=1e-5)
    # Eckart and Young: what is left has the remaining eigenvalues, and no other factor leaves less.
    left = np.linalg.eigvalsh(covariance)[::-1][rank:].sum() if rank < d else 0.0
    assert residual == pytest.approx(left, abs=1e-6)


def test_signs_of_a_factor_do_not_hang_on_the_solver():
    points = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    _, factor, _ = moments(points, 4)
    assert (factor[np.arange(4), np.abs(factor).argmax(axis=1)] > 0).all()


QUIET = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from lorameta.data import Example
from lorameta.encoder import SentenceEncoder
summary = SentenceEncoder().encode([Example("What comes after one?", ("two",))])
print(len(summary.mean))
"""


def test_a_fresh_process_is_silent_and_opens_no_socket(sentence_encoder):
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "384\n")


def test_tasks_behind_one_long_preamble_are_told_apart(sentence_encoder):
    """A text beyond the model's 254 word pieces loses its beginning, as in training, and is said to."""
    preamble = "You read a mail and say which desk it goes to. " * 40
    kitchen, travel = (
        [Example(f"{preamble}Mail: {about} {n}.", (about,)) for n in range(3)] for about in ("the pan burns", "a train")
    )
    with pytest.warns(
        LorametaWarning, match=r"3 of 3 rows have more than the 254 tokens that can be read in the sentence"
    ):
        one, other = sentence_encoder.encode(kitchen), sentence_encoder.encode(travel)
    assert one.mean @ other.mean < 0.95 * np.linalg.norm(one.mean) * np.linalg.norm(other.mean)
    (end,) = sentence_encoder.shortened([kitchen[0].text])
    assert kitchen[0].text.endswith(end)
    assert 250 <= len(sentence_encoder.transformer.tokenizer(end, add_special_tokens=False)["input_ids"]) <= 254
    assert sentence_encoder.shortened(["short", "x" * 300]) == ["short", "x" * 300]
