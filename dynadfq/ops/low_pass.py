"""A Gaussian low-pass filter for images (SynQ, arXiv 2603.18423).

Synthetic images carry more high-frequency content than natural ones.
"""

from __future__ import annotations

import torch
from torch import Tensor


def low_pass(images: Tensor, cutoff: float, side: int | None = None) -> Tensor:
    """Multiply the spectrum of images by exp(-D² / (2 · cutoff²)), D in cycles per image.

    The mean of an image stays, since the gain at D = 0 is 1.

    Args:
        images: (B, C, H, W).
        cutoff: cycles per image.
        side: pixels of the images that the cutoff is meant for; it is scaled in proportion to the
            shorter side of ``images``. None takes the cutoff as it is.

    Returns:
        (B, C, H, W) filtered images.
    """
    height, width = images.shape[2:]
    if side is not None:
        cutoff *= min(height, width) / side
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device)
    columns = torch.fft.rfftfreq(width, 1 / width, device=images.device)
    gain = torch.exp(-(rows[:, None].square() + columns.square()) / (2 * cutoff**2))
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * gain, s=(height, width))
    return filtered
