"""The conditional generator of GDFQ (Xu et al., ECCV 2020, arXiv 2003.03603, released code).

BatchNorm always uses the statistics of the batch: the network has no state but its parameters, and
is the same in train and eval mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate, leaky_relu

from dynadfq.synthesis.config import Mixing
from dynadfq.synthesis.latent import Latent, Mixture

WIDTHS = (128, 128, 64)  # channels after the projection and after each hidden convolution
# The released code writes BatchNorm2d(channels, 0.8), which sets eps, not momentum.
EPSILONS = (1e-5, 0.8, 0.8)


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm with the statistics of the batch."""

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, affine=affine, track_running_stats=False)

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        """Normalize (B, C, H, W); the classes are not used."""
        return super().forward(x)


class ConditionalBatchNorm(nn.Module):
    """BatchNorm with a gain and a bias per class; a mixture uses their weighted sums."""

    def __init__(self, channels: int, eps: float, num_classes: int) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(num_classes, channels))

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Normalize (B, C, H, W) with (B, classes) weights of gains and biases."""
        x = batch_norm(x, None, None, training=True, eps=self.eps)
        return x * (shares @ self.gain)[:, :, None, None] + (shares @ self.bias)[:, :, None, None]


class GeneratorNetwork(nn.Module):
    """Maps classes and noise to images.

    A linear layer makes a map of a quarter of the image's sides, rounded up; two convolutions
    double it, a third makes the image, which is cropped to size around its centre. The last
    BatchNorm gives every batch mean 0 and variance 1 in each channel, as normalized images have.

    Args:
        latent: what comes before the linear layer.
        shape: (C, H, W) of an image, any size.
        num_classes: number of classes.
        conditional: BatchNorm's gains and biases depend on the class.
        mixing: whether a mixture's gains and biases are the weighted sum of its classes' or that
            divided by their number. The mean is what Qimera's released code does; it makes the gain
            of K classes 1/K, and the next layer's eps of 0.8 then dominates its variance.
    """

    def __init__(
        self,
        latent: Latent,
        shape: Sequence[int],
        num_classes: int,
        conditional: bool,
        mixing: Mixing = "sum",
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.latent = latent
        self.size = (height, width)
        self.mixing = mixing
        self.start = (WIDTHS[0], -(-height // 4), -(-width // 4))
        self.project = nn.Linear(latent.features, self.start[0] * self.start[1] * self.start[2])
        self.norms = nn.ModuleList(
            ConditionalBatchNorm(c, eps, num_classes) if conditional else BatchNorm(c, eps)
            for c, eps in zip(WIDTHS, EPSILONS, strict=True)
        )
        self.hidden = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(WIDTHS))
        self.colour = nn.Conv2d(WIDTHS[-1], channels, 3, padding=1)
        self.whiten = BatchNorm(channels, affine=False)

    def forward(self, mixture: Mixture, noise: Tensor) -> Tensor:
        """Return (B, C, H, W) normalized images of (B, K) classes and (B, K, features) noise."""
        shares = mixture.soft_labels
        if self.mixing == "mean":
            shares = shares / mixture.classes.shape[1]
        x = self.project(self.latent(mixture, noise)).unflatten(1, self.start)
        x = self.norms[0](x, shares)
        for convolution, norm in zip(self.hidden, list(self.norms)[1:], strict=True):
            x = interpolate(x, scale_factor=2, mode="nearest")
            x = leaky_relu(norm(convolution(x), shares), 0.2)
        images: Tensor = self.whiten(_centre(self.colour(x).tanh(), self.size))
        return images


def _centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((have - want) // 2 for have, want in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]
