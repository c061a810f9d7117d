"""From image files to what a network reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

Interpolation = Literal["nearest", "bilinear", "bicubic"]
MODES = {1: "L", 3: "RGB"}
SHORT = ("PNG",)  # formats whose numbers have 16 bits where older Pillows say 32


@dataclass(frozen=True)
class Preprocessing:
    """How an image of any size becomes what a network reads: scaled, the middle cut out,
    normalized.

    Args:
        input_shape: shape of one image, (C, H, W); the crop is H × W pixels.
        mean, std: a channel each, of pixels in 0 … 1.
        resize: length in pixels to which the shorter side is scaled before the crop, by Pillow as
            torchvision and timm do for ImageNet; None scales the image so that it just covers the
            crop, and leaves one of its size alone.
        interpolation: how pixels between pixels are found; an image that shrinks is smoothed,
            except with "nearest".

    Raises:
        ValueError: the network reads neither grey nor colour images, or a value does not fit the
            others.
    """

    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        channels, *size = self.input_shape
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise ValueError(
                    f"{name}: {list(values)} has {len(values)} values for {channels} channels; give each one"
                )
        if self.resize is not None and self.resize < max(size):
            raise ValueError(
                f"resize: {self.resize} pixels are fewer than input_shape, {max(size)}; give at least that"
            )
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(
                f"interpolation: {self.interpolation!r} is none of {', '.join(get_args(Interpolation))}"
            )

    @classmethod
    def of(cls, card: Mapping[str, Any]) -> Preprocessing:
        """Read it from what is known of a network: ``teacher.json`` or a student's description."""
        return cls(
            tuple(card["input_shape"]),
            tuple(card["mean"]),
            tuple(card["std"]),
            card.get("resize"),
            card.get("interpolation", "bilinear"),
        )

    def pixels(self, image: Image.Image) -> Tensor:
        """An image of any size and mode to (C, H, W) uint8: grey or colour, scaled, the middle cut
        out.
        """
        channels, height, width = self.input_shape
        if channels not in MODES:
            raise ValueError(
                f"the network reads {channels} channels; image files have 1 (grey) or 3 (colour)"
            )
        image = eight_bits(image).convert(MODES[channels])
        if self.resize is not None:
            image = _shorter_side(image, self.resize, self.interpolation)
        array = np.array(image)
        pixels = torch.from_numpy(array).view(*array.shape[:2], channels).permute(2, 0, 1)
        if self.resize is None:
            pixels = _covering(pixels, height, width, self.interpolation)
        return _centre(pixels, height, width).contiguous()

    def normalize(self, pixels: Tensor) -> Tensor:
        """(…, C, H, W) uint8 pixels less their mean, over their deviation, as float32."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return (pixels.float() / 255 - mean) / std


def read_image(path: str | Path, preprocessing: Preprocessing) -> Tensor:
    """Pixels of a file, (C, H, W) uint8, turned as its EXIF entry says.

    Raises:
        ValueError: the file is no image, or the network reads neither grey nor colour images.
        FileNotFoundError: there is no such file.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.format = file.format
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # Pillow's word for a broken PNG
        raise ValueError(f"{path}: not an image that can be read ({error})") from error
    try:
        return preprocessing.pixels(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits a pixel as one of 8, which Pillow would cut off; any other as it is.

    Raises:
        ValueError: its pixels are 32-bit numbers, of a range that nobody knows.
    """
    short = image.mode.startswith("I;16") or (image.mode == "I" and image.format in SHORT)
    if short:
        return Image.fromarray((np.asarray(image).astype(np.uint32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"pixels are 32-bit numbers (mode {image.mode}), whose range is unknown; save 8 or 16 bits"
        )
    return image


def _shorter_side(image: Image.Image, length: int, interpolation: Interpolation) -> Image.Image:
    """Scale an image so that its shorter side has ``length`` pixels; the longer one is rounded down
    (torchvision).
    """
    short = min(image.size)
    if short == length:
        return image
    width, height = (length * side // short for side in image.size)
    return image.resize((width, height), Image.Resampling[interpolation.upper()])


def _covering(pixels: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """(C, H, W) uint8 pixels scaled so that they just cover ``height`` × ``width``; the aspect
    ratio stays.
    """
    factor = max(height / pixels.shape[1], width / pixels.shape[2])
    if factor == 1:
        return pixels
    size = [
        max(height, round(pixels.shape[1] * factor)),
        max(width, round(pixels.shape[2] * factor)),
    ]
    smooth = factor < 1 and interpolation != "nearest"
    resized = interpolate(pixels[None].float(), size=size, mode=interpolation, antialias=smooth)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


def _centre(pixels: Tensor, height: int, width: int) -> Tensor:
    """The middle ``height`` × ``width`` of (C, H, W) pixels; half a pixel is rounded to even, as
    torchvision does.
    """
    top, left = (
        round((side - kept) / 2)
        for side, kept in zip(pixels.shape[1:], (height, width), strict=True)
    )
    return pixels[:, top : top + height, left : left + width]
