"""The classification layer: the one that the logits come from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynadfq.teacher.classifier import class_weights, find_classifier
from dynadfq.teacher.teacher import Teacher


def test_the_last_layer_with_one_output_per_class() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Conv2d(3, 6, 3))
    assert find_classifier(module, 6) is module[1]
    convolution = nn.Sequential(nn.Linear(4, 6), nn.Conv2d(5, 6, 1))
    assert find_classifier(convolution, 6) is convolution[1]
    assert torch.equal(class_weights(convolution, 6), convolution[1].weight.detach()[:, :, 0, 0])
    with pytest.raises(ValueError, match="no linear layer or 1×1 convolution with 5 outputs"):
        find_classifier(module, 5)


class Heads(nn.Module):
    """Three layers with one output per class, defined in another order than they are used."""

    def __init__(self, forward: Callable[[Heads, Tensor], Tensor]) -> None:
        super().__init__()
        self.how = forward
        self.head = nn.Linear(8, 4)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.auxiliary = nn.Linear(8, 4)
        self.pointwise = nn.Conv2d(8, 4, 1)
        self.scale = nn.Parameter(torch.full((4,), 2.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.how(self, self.body(images))


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


@pytest.mark.parametrize(
    ("expected", "forward"),
    [
        ("head", lambda net, x: net.head(pooled(x))),
        ("auxiliary", lambda net, x: net.auxiliary(pooled(x)).mul_(net.scale)),
        ("pointwise", lambda net, x: torch.relu_(net.pointwise(x)).mean((2, 3)) - 1),
        ("head", lambda net, x: (net.head(pooled(x)), net.auxiliary(pooled(x)))[0] * net.scale),
        ("head", lambda net, x: net.head(pooled(x * net.pointwise(x).mean(1, True).sigmoid()))),
    ],
)
def test_the_classifier_is_the_layer_whose_output_is_returned(
    expected: str, forward: Callable[[Heads, Tensor], Tensor]
) -> None:
    teacher = Teacher(Heads(forward), (3, 8, 8), 4, (0.5,) * 3, (0.25,) * 3)
    layer = getattr(teacher.module, expected)
    assert teacher.classifier is layer
    assert torch.equal(teacher.class_weights, layer.weight.detach().flatten(1))


def test_logits_that_come_from_no_layer() -> None:
    teacher = Teacher(
        Heads(lambda net, x: pooled(x) @ net.auxiliary.weight.T), (3, 8, 8), 4, (0,) * 3, (1,) * 3
    )
    with pytest.raises(ValueError, match="no linear layer or 1×1 convolution with 4 outputs"):
        _ = teacher.class_weights
