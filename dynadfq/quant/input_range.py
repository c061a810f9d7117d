"""The range of the network's input in scheme ``integer``: that of normalized pixels.

It follows from mean and standard deviation alone. Images, synthetic ones in particular, say less
about it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynadfq.ops.preprocess import Preprocessing

LEVELS = 255  # of a pixel, and of its 8-bit codes
TIE = 1e-3  # codes, distance to the middle between two within which an engine may choose either
MOST_TIES = 0.1  # share of pixel values that may be so close


def input_range(preprocessing: Preprocessing) -> tuple[float, float]:
    """Return the smallest and the largest value of a normalized pixel, over all channels.

    Where many pixel values are half-way between two codes, as with mean 0.5, half to even would
    give pairs of them the same code. The range is then wider by 1 / 254: the codes are -127 … 127.
    """
    values = _pixel_values(preprocessing)
    low = float(values.min())
    high = float(values.max())
    position = values / ((high - low) / LEVELS)
    ties = (position - position.floor() - 0.5).abs() < TIE
    wider = LEVELS / (LEVELS - 1) if ties.double().mean() > MOST_TIES else 1.0
    return low * wider, high * wider


def _pixel_values(preprocessing: Preprocessing) -> Tensor:
    """Every normalized value of a pixel, (C, 256) float64."""
    pixels = torch.arange(LEVELS + 1, dtype=torch.float64) / LEVELS
    mean, std = (
        torch.tensor(values, dtype=torch.float64)[:, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (pixels - mean) / std
