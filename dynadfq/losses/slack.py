"""Distances to BN statistics that count beyond a slack.

DSG, Zhang et al., CVPR 2021, arXiv 2103.01049.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynadfq.losses.bn_statistics import gaps_per_image
from dynadfq.losses.config import SlackGranularity
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.teacher import Teacher


class Slack(NamedTuple):
    """The slack of one layer: () for the whole layer or (C,) for its channels."""

    mean: Tensor  # δ
    std: Tensor  # γ


@torch.no_grad()
def measure_slack(
    teacher: Teacher, images: Tensor, quantile: float, granularity: SlackGranularity
) -> list[Slack]:
    """Return quantiles of the distances of images to the running statistics, one per layer.

    Args:
        teacher: network with BatchNorm.
        images: (B, C, H, W) Gaussian noise, which contains nothing of the data.
        quantile: DSG's ε, as a fraction; 1 is the largest distance.
        granularity: quantiles over images and channels of a layer, or over images per channel.
    """
    with teacher.recording() as recording:
        teacher(images)
        gaps = gaps_per_image(recording)
    if granularity == "layer":
        gaps = [(mean.flatten(), std.flatten()) for mean, std in gaps]
    return [
        Slack(mean.abs().quantile(quantile, dim=0), std.abs().quantile(quantile, dim=0))
        for mean, std in gaps
    ]


def distances_beyond(slack: Sequence[Slack], recording: Recording) -> Tensor:
    """Return squared distances beyond the slack, summed over channels: (B, layers) (DSG's SDA).

    Inside the slack there is neither loss nor gradient.
    """
    layers = zip(gaps_per_image(recording), slack, strict=True)
    return torch.stack(
        [_beyond(mean, s.mean) + _beyond(std, s.std) for (mean, std), s in layers], dim=1
    )


def _beyond(gap: Tensor, slack: Tensor) -> Tensor:
    """(B, C) to (B,)."""
    return torch.relu(gap.abs() - slack).square().sum(dim=1)


def layerwise_enhanced(distances: Tensor, enhancement: float) -> Tensor:
    """Return the mean over images of all layers' distances, one layer enhanced (DSG's LSE).

    Image i counts layer i mod layers ``enhancement`` times more. The paper's matrix I + 11ᵀ is the
    case of 1, read for each image: of distances of the whole batch it would only be a factor.

    >>> distances = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    >>> layerwise_enhanced(distances, 1.0).item()  # (11 + 1 + 22 + 20) / 2
    27.0

    Args:
        distances: (B, layers).
        enhancement: additional weight of the image's own layer.
    """
    images = torch.arange(len(distances), device=distances.device)
    own = distances[images, images % distances.shape[1]]
    return (distances.sum(dim=1) + enhancement * own).mean()
