from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dynadfq.teacher.similarity import (
    class_similarity,
    most_similar,
    similarity_of_weights,
    top_similar,
)
from dynadfq.teacher.teacher import Teacher

WEIGHTS = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, -1.0]])


def test_measures_by_hand() -> None:
    dot = [[4.0, 6.0, 0.0], [6.0, 25.0, -4.0], [0.0, -4.0, 1.0]]
    cosine = [[1.0, 0.6, 0.0], [0.6, 1.0, -0.8], [0.0, -0.8, 1.0]]
    assert similarity_of_weights(WEIGHTS, "dot").tolist() == dot
    torch.testing.assert_close(similarity_of_weights(WEIGHTS, "cosine"), torch.tensor(cosine))
    # less the mean row (5/3, 1): (1/3, -1), (4/3, 3), (-5/3, -2)
    centred = similarity_of_weights(WEIGHTS, "centred")
    expected = (4 / 9 - 3) / math.sqrt((1 / 9 + 1) * (16 / 9 + 9))
    assert centred[0, 1].item() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(centred.diagonal(), torch.ones(3))


@pytest.mark.parametrize("measure", ["dot", "cosine", "centred"])
def test_similarity_is_symmetric(measure: str) -> None:
    similarity = similarity_of_weights(
        torch.randn(9, 20, generator=torch.Generator().manual_seed(0)), measure
    )
    assert torch.equal(similarity, similarity.T)
    assert len(most_similar(similarity, 4).unique()) == 9


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(
        ValueError, match='measure: must be one of dot, cosine, centred; got "euclid"'
    ):
        similarity_of_weights(WEIGHTS, "euclid")  # type: ignore[arg-type]


def test_a_class_is_always_its_own_nearest() -> None:
    similarity = similarity_of_weights(WEIGHTS)
    assert similarity[0].argmax() == 1
    assert most_similar(similarity, 2).tolist() == [[0, 1], [1, 0], [2, 0]]
    assert most_similar(similarity, 1).tolist() == [[0], [1], [2]]
    assert similarity.tolist() == similarity_of_weights(WEIGHTS).tolist()


def test_top_similar_is_for_people() -> None:
    rows = top_similar(similarity_of_weights(WEIGHTS), ["cat", "dog", "tree"], 5)
    assert rows[:2] == [("cat", 1, "dog", 6.0), ("cat", 2, "tree", 0.0)]
    assert rows[2:4] == [("dog", 1, "cat", 6.0), ("dog", 2, "tree", -4.0)]
    assert len(rows) == 6


def test_of_a_linear_layer_and_of_a_1x1_convolution(make_net: Callable[[], nn.Module]) -> None:
    linear = Teacher(make_net(), (3, 8, 8), 6, (0,) * 3, (1,) * 3)
    weight = linear.module.fc.weight
    torch.testing.assert_close(class_similarity(linear), weight @ weight.T)
    convolution = nn.Conv2d(48, 6, 1)
    convolution.weight.data = weight.data[:, :, None, None].clone()
    network = nn.Sequential(
        nn.Conv2d(3, 48, 1), nn.BatchNorm2d(48), convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    teacher = Teacher(network, (3, 8, 8), 6, (0,) * 3, (1,) * 3)
    assert torch.equal(class_similarity(teacher), class_similarity(linear))
    with teacher.recording() as recording:
        teacher(torch.zeros(2, 3, 8, 8))
        assert recording.features is not None and len(recording.features) == 2
