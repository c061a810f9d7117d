"""Fine detail, taken out of images: synthetic ones carry more of it than natural ones (SynQ, arXiv
2603.18423).
"""

from __future__ import annotations

import torch
from torch import Tensor


def low_pass(images: Tensor, cutoff: float, side: int | None = None) -> Tensor:
    """Multiply the spectrum by exp(-D² / (2 · cutoff²)), D in cycles per image: (B, C, H, W) to the
    same.

    With a ``side``, the cutoff is that of images of so many pixels, and is scaled to these images'
    shorter side. The mean of an image stays: its gain is 1.
    """
    height, width = images.shape[2:]
    cutoff *= min(height, width) / side if side else 1.0
    rows = torch.fft.fftfreq(height, 1 / height, device=images.device)
    columns = torch.fft.rfftfreq(width, 1 / width, device=images.device)
    gain = torch.exp(-(rows[:, None].square() + columns.square()) / (2 * cutoff**2))
    filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * gain, s=(height, width))
    return filtered
