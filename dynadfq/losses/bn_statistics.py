"""Distances of images to the running statistics of BatchNorm layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

from dynadfq.ops.batch_norm import running_statistics
from dynadfq.ops.moments import moments
from dynadfq.teacher.recording import Recording

Statistics = Sequence[tuple[Tensor, Tensor]]  # (C,) mean and variance, one pair per layer


def bn_statistics_per_image(recording: Recording, images: Tensor) -> Tensor:
    """Return ZeroQ's BN statistics loss (arXiv 2001.00281; DynaDFQ's L_bns of a single image).

    The squared distance of each image's mean and standard deviation over pixels to the running
    ones, summed over channels and layers, mean over the batch. The image itself counts as a layer
    with mean 0 and deviation 1. A map of one pixel has no deviation: only its mean counts.
    """
    total = image_statistics(images)
    for mean_gap, std_gap in gaps_per_image(recording):
        total = total + _squared(mean_gap, std_gap).mean()
    return total


def image_statistics(images: Tensor) -> Tensor:
    """Return the squared distance of each image's mean to 0 and deviation to 1.

    The sum over the channels, mean over the batch.
    """
    return _squared(*_gaps(images, images.new_zeros(()), images.new_ones(()))).mean()


def gaps_per_image(recording: Recording) -> list[tuple[Tensor, Tensor]]:
    """Return each image's mean and deviation minus the running ones: (B, C) twice per layer.

    The variance is unbiased; 1e-6 is added to it and to the running one. A map of one pixel has no
    deviation: that gap is 0.
    """
    gaps = []
    for layer, x in recording.batch_norms:
        mean, variance = running_statistics(layer)
        gaps.append(_gaps(x, mean, (variance + 1e-6).sqrt()))
    return gaps


def _gaps(x: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    if x[0, 0].numel() == 1:
        gap = x.flatten(1) - mean
        return gap, torch.zeros_like(gap)
    average, variance = moments(x, _pixels(x))
    return average - mean, (variance + 1e-6).sqrt() - std


def _squared(mean_gap: Tensor, std_gap: Tensor) -> Tensor:
    """(B, C) twice to (B,)."""
    return (mean_gap.square() + std_gap.square()).sum(dim=1)


def bn_statistics_of_batch(recording: Recording) -> Tensor:
    """Return the BN statistics loss of IntraQ, HAST and GDFQ.

    Squared distances of the batch's mean and biased variance to the running ones, mean over
    channels and layers.
    """
    statistics = batch_statistics(recording)
    means, variances = (torch.cat(parts) for parts in zip(*statistics, strict=True))
    running = layer_statistics(recording)
    running_means, running_variances = (torch.cat(parts) for parts in zip(*running, strict=True))
    squared = (means - running_means).square() + (variances - running_variances).square()
    layers = squared.split([len(mean) for mean, _ in running])
    return torch.stack([channels.mean() for channels in layers]).mean()


def bn_statistics_norm(recording: Recording, first_layer: float = 1.0) -> Tensor:
    """Return DeepInversion's feature regularization (arXiv 1912.08795, Sec. 3.2).

    Euclidean norms, not squared, of the distances of the batch's mean and biased variance to the
    running ones, summed over layers.

    Args:
        recording: one forward pass.
        first_layer: further weight of the first layer.
    """
    pairs = zip(batch_statistics(recording), layer_statistics(recording), strict=True)
    losses = torch.stack(
        [
            vector_norm(mean - running_mean) + vector_norm(variance - running_variance)
            for (mean, variance), (running_mean, running_variance) in pairs
        ]
    )
    total: Tensor = first_layer * losses[0] + losses[1:].sum()
    return total


def batch_statistics(recording: Recording) -> list[tuple[Tensor, Tensor]]:
    """Return each layer's mean and biased variance of the batch: (C,) twice."""
    return [moments(x, (0, *_pixels(x)), correction=0) for _, x in recording.batch_norms]


def layer_statistics(recording: Recording) -> list[tuple[Tensor, Tensor]]:
    """Return each layer's running mean and variance: (C,) twice."""
    return [running_statistics(layer) for layer, _ in recording.batch_norms]


def statistics_distances(statistics: Statistics, targets: Statistics) -> Tensor:
    """Return squared distances of means and of variances, mean over channels: (layers,)."""
    gaps = [
        (mean - target_mean).square().mean() + (variance - target_variance).square().mean()
        for (mean, variance), (target_mean, target_variance) in zip(
            statistics, targets, strict=True
        )
    ]
    return torch.stack(gaps)


def first_deep_layer(layers: int) -> int:
    """Return the index of the BatchNorm layer where the deeper part begins (SynQ, released code).

    >>> [first_deep_layer(layers) for layers in (1, 4, 20)]
    [0, 1, 9]
    """
    return max((layers + 2) // 2 - 2, 0)


def weighted_bn_statistics(recording: Recording, shallow: float, deep: float) -> Tensor:
    """Return the BN statistics loss with weights of shallow and of deeper layers (TexQ, SynQ)."""
    distances = statistics_distances(batch_statistics(recording), layer_statistics(recording))
    weights = torch.full_like(distances, deep)
    weights[: first_deep_layer(len(weights))] = shallow
    return (weights * distances).mean()


def pooled_statistics(batches: Sequence[tuple[int, Statistics]]) -> Statistics:
    """Return the statistics of several batches together, from their sizes and statistics.

    The variance is that within the batches and between their means.

    >>> one = (torch.tensor([0.0]), torch.tensor([1.0]))
    >>> other = (torch.tensor([4.0]), torch.tensor([1.0]))
    >>> pooled_statistics([(1, [one]), (1, [other])])
    [(tensor([2.]), tensor([5.]))]
    """
    images = sum(size for size, _ in batches)
    result = []
    for layer in range(len(batches[0][1])):
        parts = [(size / images, *statistics[layer]) for size, statistics in batches]
        mean = torch.stack([share * mean for share, mean, _ in parts]).sum(dim=0)
        spread = [share * (variance + (own - mean).square()) for share, own, variance in parts]
        result.append((mean, torch.stack(spread).sum(dim=0)))
    return result


def _pixels(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))
