"""The classification layer, and outputs that are not logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadfq.teacher.classifier import class_weights, find_classifier, require_classifier


def test_the_classifier_is_the_last_layer_with_one_output_per_class() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Conv2d(3, 6, 3))
    assert find_classifier(module, 6) is module[1]
    convolution = nn.Sequential(nn.Linear(4, 6), nn.Conv2d(5, 6, 1))
    assert find_classifier(convolution, 6) is convolution[1]
    assert torch.equal(class_weights(convolution, 6), convolution[1].weight.detach()[:, :, 0, 0])
    with pytest.raises(ValueError, match="no linear layer or 1×1 convolution with 5 outputs"):
        find_classifier(module, 5)


class ReturnsDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layer(images)}


def test_outputs_that_are_not_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="returns dict, not one tensor of logits; wrap it in a"):
        require_classifier(ReturnsDict(), (3, 8, 8), 4)
