"""How much outputs differ, by what they mean."""

import numpy as np
import pytest

from mbn_deploy.answers import Answers
from mbn_deploy.diagnose.layer_errors import divergences
from mbn_deploy.diagnose.output_change import UNITS, OutputChange

A, B = np.float32([[2.0, -1.0], [0.5, 0.5]]), np.float32([[1.0, 0.5], [0.5, 0.5]])


def test_probabilities_diverge():
    softmax = np.exp(A) / np.exp(A).sum(1, keepdims=True), np.exp(B) / np.exp(B).sum(1, keepdims=True)
    sigmoid = 1 / (1 + np.exp(-A)), 1 / (1 + np.exp(-B))
    for answers, rows, independent in (
        (Answers("classes", "logits"), softmax, False),
        (Answers("labels", "logits"), sigmoid, True),
    ):
        expected = divergences(*rows, independent=independent)
        np.testing.assert_allclose(OutputChange(answers).sizes(A, B), expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(
        OutputChange(Answers("labels", "sigmoid")).sizes(*sigmoid),
        OutputChange(Answers("labels", "logits")).sizes(A, B),
        rtol=1e-4, atol=1e-9,
    )  # fmt: skip


def test_values_and_vectors_have_distances():
    assert OutputChange(Answers("values", "none")).sizes(A, B) == pytest.approx([np.sqrt((1 + 1.5**2) / 2), 0])
    cosine = (2 * 1 - 1 * 0.5) / np.sqrt(5) / np.sqrt(1.25)
    assert OutputChange(Answers("embedding", "none")).sizes(A, B) == pytest.approx([1 - cosine, 0])
    zeros = np.zeros((1, 2), np.float32)
    assert OutputChange(Answers("embedding", "none")).sizes(zeros, zeros) == [0]
    assert OutputChange(Answers("embedding", "none")).sizes(zeros, A[:1]) == [1]


@pytest.mark.parametrize(
    ("answers", "expected", "given", "same"),
    [
        (Answers("classes", "softmax"), [[0.7, 0.3]], [[0.6, 0.4]], [True]),
        (Answers("classes", "logits"), [[2, 1]], [[1, 2]], [False]),
        (Answers("binary", "logits"), [[-0.1], [0.1]], [[0.1], [0.2]], [False, True]),
        (Answers("binary", "sigmoid"), [[0.4]], [[0.6]], [False]),
        (Answers("labels", "sigmoid"), [[0.9, 0.1], [0.9, 0.1]], [[0.6, 0.4], [0.9, 0.6]], [True, False]),
    ],
)
def test_the_same_is_the_same_decision(answers, expected, given, same):
    assert OutputChange(answers).same(np.float32(expected), np.float32(given)).tolist() == same


def test_values_and_vectors_are_never_quite_the_same():
    for meaning in ("values", "embedding"):
        assert OutputChange(Answers(meaning, "none")).same(A, B) is None
    assert set(UNITS) == {"classes", "labels", "binary", "values", "embedding"}
