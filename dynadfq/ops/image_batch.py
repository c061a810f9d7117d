"""Batches of normalized images: their shape, their number type, and their range."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.errors import InvalidArgument

# Pixels of normalized images are in 0 … 1, of synthetic ones not far from it.
FARTHEST_PIXEL = 20.0


def require_batch(images: object, input_shape: Sequence[int]) -> None:
    """Check that images are a (B, C, H, W) float32 tensor of a network's input shape.

    Raises:
        InvalidArgument: they are something else.
    """
    channels, height, width = input_shape
    reads = f"the network reads float32 of shape (B, {channels}, {height}, {width})"
    if not isinstance(images, Tensor):
        raise InvalidArgument("images", f"of type {type(images).__name__}, but {reads}")
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, height, width):
        raise InvalidArgument(
            "images",
            f"of shape {tuple(images.shape)}, but {reads}; prepare them by the model's "
            "preprocessing",
        )
    if images.dtype != torch.float32:
        advice = (
            "; normalize them by the model's preprocessing.normalize"
            if images.dtype == torch.uint8
            else ""
        )
        raise InvalidArgument(
            "images", f"{str(images.dtype).removeprefix('torch.')}, but {reads}{advice}"
        )


def require_normalized(images: Tensor, preprocessing: Preprocessing) -> None:
    """Check that images are finite and not pixels of 0 … 255.

    Args:
        images: (B, C, H, W) float32.
        preprocessing: of the network.

    Raises:
        InvalidArgument: they are.
    """
    shape = (-1, 1, 1)
    mean = torch.tensor(preprocessing.mean, device=images.device).view(shape)
    std = torch.tensor(preprocessing.std, device=images.device).view(shape)
    low, high = torch.aminmax(images * std + mean)
    if not bool((high - low).isfinite()):
        raise InvalidArgument("images", "they hold NaN or infinity; check how they are made")
    if max(-low, high) > FARTHEST_PIXEL:
        raise InvalidArgument(
            "images",
            f"their values, {float(images.min()):.4g} … {float(images.max()):.4g}, are not "
            "normalized; divide pixels by 255, subtract mean and divide by std",
        )


def look_like_plain_pixels(images: Tensor, preprocessing: Preprocessing) -> bool:
    """Return whether all values are in 0 … 1, though those of normalized images would not be.

    Args:
        images: (B, C, H, W) float32.
        preprocessing: of the network.
    """
    low, high = torch.aminmax(images)
    darkest = min(-m / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True))
    return darkest < -0.5 and bool((low >= 0) & (high <= 1) & (high > 0.5))
