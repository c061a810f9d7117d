"""From image files to what a network reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

MODES = {1: "L", 3: "RGB"}


def read_image(path: str | Path, input_shape: Sequence[int]) -> Tensor:
    """Pixels of a file, (C, H, W) uint8: as grey or colour, the shorter side scaled, the middle cut out.

    An image of the right size is not changed.

    Raises:
        ValueError: the file is no image, or the network reads neither grey nor colour images.
        FileNotFoundError: there is no such file.
    """
    channels, height, width = input_shape
    if channels not in MODES:
        raise ValueError(f"the network reads {channels} channels; image files have 1 (grey) or 3 (colour)")
    try:
        with Image.open(path) as file:
            array = np.array(ImageOps.exif_transpose(file).convert(MODES[channels]))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not an image that can be read ({error})") from error
    pixels = torch.from_numpy(array).view(*array.shape[:2], channels).permute(2, 0, 1)
    return centre(scaled(pixels, height, width), height, width)


def scaled(pixels: Tensor, height: int, width: int) -> Tensor:
    """(C, H, W) uint8 pixels scaled so that they just cover ``height`` × ``width``; the aspect ratio stays."""
    factor = max(height / pixels.shape[1], width / pixels.shape[2])
    if factor == 1:
        return pixels
    size = [max(height, round(pixels.shape[1] * factor)), max(width, round(pixels.shape[2] * factor))]
    resized = interpolate(pixels[None].float(), size=size, mode="bilinear", antialias=factor < 1)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


def centre(pixels: Tensor, height: int, width: int) -> Tensor:
    """The middle ``height`` × ``width`` of (C, H, W) pixels."""
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return pixels[:, top : top + height, left : left + width]


def normalised(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(…, C, H, W) uint8 pixels less their mean, over their deviation; both a channel each, of pixels in 0 … 1."""
    return (pixels.float() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
