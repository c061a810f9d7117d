"""Distances between the statistics of images and those in BatchNorm layers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from dynadfq.ops.batch_norm import running_statistics
from dynadfq.ops.moments import moments
from dynadfq.teacher.recording import Recording


def bn_statistics_per_image(recording: Recording, images: Tensor) -> Tensor:
    """ZeroQ's BN statistics loss (arXiv 2001.00281; DynaDFQ's L_bns of a single image).

    Squared distance of each image's mean and standard deviation over pixels to the running ones,
    summed over channels and layers, mean over the batch; the image itself counts as a layer with
    mean 0 and deviation 1. A map of one pixel has no deviation: its mean counts.
    """
    total = image_statistics(images)
    for mean_gap, std_gap in gaps_per_image(recording):
        total = total + _squared(mean_gap, std_gap).mean()
    return total


def image_statistics(images: Tensor) -> Tensor:
    """Squared distance of each image's mean to 0 and deviation to 1, sum over its channels, mean
    over the batch.
    """
    return _squared(*_gaps(images, images.new_zeros(()), images.new_ones(()))).mean()


def gaps_per_image(recording: Recording) -> list[tuple[Tensor, Tensor]]:
    """Each layer's mean and standard deviation of each image, less the running ones: (B, C) twice.

    The variance is unbiased; 1e-6 is added to it and to the running one. A map of one pixel has no
    deviation, and so no gap of deviations: 0.
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
    """BN statistics loss of the IntraQ / HAST / GDFQ lineage, on mean and biased variance of the
    whole batch.

    Squared distances to the running ones, mean over channels and layers.
    """
    layers = [layer for layer, _ in recording.batch_norms]
    found = [torch.cat(parts) for parts in zip(*batch_statistics(recording), strict=True)]
    running = [torch.cat(parts) for parts in zip(*map(running_statistics, layers), strict=True)]
    squared = (found[0] - running[0]).square() + (found[1] - running[1]).square()
    return torch.stack(
        [channels.mean() for channels in squared.split([layer.num_features for layer in layers])]
    ).mean()


def bn_statistics_norm(recording: Recording, first_layer: float = 1.0) -> Tensor:
    """DeepInversion's feature regularization (arXiv 1912.08795, Sec. 3.2), on mean and biased
    variance of the batch.

    Euclidean norms, not squared, of the distances to the running ones, summed over layers;
    ``first_layer`` multiplies the first one's.
    """
    losses = torch.stack(
        [vector_norm(mean) + vector_norm(variance) for mean, variance in _gaps_of_batch(recording)]
    )
    total: Tensor = first_layer * losses[0] + losses[1:].sum()
    return total


def batch_statistics(recording: Recording) -> list[tuple[Tensor, Tensor]]:
    """Each layer's mean and biased variance of the batch: (C,) twice."""
    return [moments(x, (0, *_pixels(x)), correction=0) for _, x in recording.batch_norms]


def _gaps_of_batch(recording: Recording) -> list[tuple[Tensor, Tensor]]:
    """Each layer's mean and biased variance of the batch, less the running ones: (C,) twice."""
    gaps = []
    for (layer, _), (mean, variance) in zip(
        recording.batch_norms, batch_statistics(recording), strict=True
    ):
        running_mean, running_variance = running_statistics(layer)
        gaps.append((mean - running_mean, variance - running_variance))
    return gaps


def _pixels(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))
