"""What an optimizer moves to change images: pixels, or coefficients of cosines.

Coefficients are scaled so that white noise gives the power spectrum of natural images, which falls
with the square of the frequency (Field, J. Opt. Soc. Am. A, 1987). Gradient descent then moves
low frequencies first and needs fewer steps than on pixels (Olah et al., "Feature Visualization",
Distill 2017, where the basis is Fourier's).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynadfq.ops.precision import in_float32


def cosines(n: int) -> Tensor:
    """Return the orthonormal cosine basis (DCT-II), (n, n) float32, one frequency per row.

    >>> cosines(2)
    tensor([[ 0.7071,  0.7071],
            [ 0.7071, -0.7071]])
    """
    frequency = torch.arange(n, dtype=torch.float64)[:, None]
    pixel = torch.arange(n, dtype=torch.float64) + 0.5
    rows = torch.cos(math.pi / n * frequency * pixel) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows.float()


class PixelBasis:
    """The pixels themselves.

    Args:
        height, width: of the images.
        device: where they are.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        pass

    def images(self, pixels: Tensor) -> Tensor:
        """Return the images, which are the pixels themselves."""
        return pixels

    def coefficients(self, images: Tensor) -> Tensor:
        """Return the pixels of images."""
        return images

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return the pixels of noise."""
        return noise


class CosineBasis:
    """The map between images and their scaled coefficients.

    The scale of a coefficient is 1/frequency, that of the mean as of the lowest frequency of the
    longer side, times a factor with which coefficients from N(0, 1) give pixels of variance 1.

    Args:
        height, width: of the images.
        device: where they are.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        rows = torch.arange(height, dtype=torch.float64) / height
        columns = torch.arange(width, dtype=torch.float64) / width
        frequency = torch.hypot(rows[:, None], columns)
        scale = 1 / frequency.clamp(min=1 / max(height, width))
        self.scale = (scale / scale.square().mean().sqrt()).float().to(device)
        self.rows = cosines(height).to(device)
        self.columns = cosines(width).to(device)

    def images(self, coefficients: Tensor) -> Tensor:
        """Return the (B, C, H, W) images of scaled coefficients; differentiable."""
        with in_float32(coefficients.device):
            return self.rows.T @ (coefficients * self.scale) @ self.columns

    def coefficients(self, images: Tensor) -> Tensor:
        """Return the scaled coefficients of (B, C, H, W) images."""
        with in_float32(images.device):
            return self.rows @ images @ self.columns.T / self.scale

    def from_noise(self, noise: Tensor) -> Tensor:
        """Return the noise's own coefficients as scaled ones, which colours it."""
        with in_float32(noise.device):
            return self.rows @ noise @ self.columns.T
