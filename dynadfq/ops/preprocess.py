"""Preprocessing: image files to the tensors that a network reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from dynadfq.ops.config import Interpolation
from dynadfq.runtime.errors import InvalidArgument, require_choice

MODES = {1: "L", 3: "RGB"}
# Of an image, as it is and scaled: 400 MB as decoded. A file of a few kilobytes may ask for more.
MOST_PIXELS = 100_000_000
SIXTEEN_BIT_FORMATS = ("PNG",)  # older versions of Pillow call their 16-bit pixels 32-bit


class TooManyPixels(ValueError):
    """An image that has more than ``MOST_PIXELS``, or would have after scaling."""


@dataclass(frozen=True)
class Preprocessing:
    """Scaling, center crop and normalization of images of any size.

    Raises:
        ValueError: a value does not fit the others.
    """

    input_shape: tuple[int, int, int]  # shape of one image, (C, H, W); the crop is H × W pixels
    mean: tuple[float, ...]  # one value per channel, of pixels in 0 … 1
    std: tuple[float, ...]
    # Length in pixels to which the shorter side is scaled before the crop, by Pillow as
    # torchvision and timm do for ImageNet; None scales the image so that it just covers the crop,
    # and leaves an image of that size unchanged.
    resize: int | None = None
    # Of the scaling; an image that shrinks is smoothed, except with "nearest".
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        channels, *size = self.input_shape
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise InvalidArgument(
                    name,
                    f"{list(values)} has {len(values)} values for {channels} channels; "
                    "give one per channel",
                )
        if not all(0 <= value <= 1 for value in self.mean):
            raise InvalidArgument(
                "mean",
                f"must be in 0 … 1, as pixels are; got {list(self.mean)}"
                + _of_bytes(max(self.mean)),
            )
        if not all(0 < value <= 1 for value in self.std):
            raise InvalidArgument(
                "std",
                f"must be above 0 and at most 1, since pixels are in 0 … 1; got {list(self.std)}"
                + _of_bytes(max(self.std)),
            )
        if self.resize is not None and self.resize < max(size):
            raise InvalidArgument(
                "resize",
                f"{self.resize} pixels are fewer than input_shape, {max(size)}; give at least that",
            )
        require_choice("interpolation", self.interpolation, get_args(Interpolation))

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that ``teacher.json`` or a student's description holds."""
        return cls(
            tuple(facts["input_shape"]),
            tuple(facts["mean"]),
            tuple(facts["std"]),
            facts.get("resize"),
            facts.get("interpolation", "bilinear"),
        )

    def pixels(self, image: Image.Image) -> Tensor:
        """Convert, scale and crop an image of any size and mode to (C, H, W) uint8.

        Raises:
            ValueError: the network reads neither 1 nor 3 channels, or the image has more than
                ``MOST_PIXELS``, as it is or scaled.
        """
        channels, height, width = self.input_shape
        if channels not in MODES:
            raise ValueError(
                f"the network reads {channels} channels; image files have 1 (grey) or 3 (colour)"
            )
        require_few_pixels("the image", *image.size)
        image = to_8_bits(image).convert(MODES[channels])
        if self.resize is not None:
            image = _resize_shorter_side(image, self.resize, self.interpolation)
        array = np.array(image)
        pixels = torch.from_numpy(array).view(*array.shape[:2], channels).permute(2, 0, 1)
        if self.resize is None:
            pixels = _resize_to_cover(pixels, height, width, self.interpolation)
        return _center_crop(pixels, height, width).contiguous()

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return (pixels / 255 - mean) / std: (…, C, H, W) uint8 to float32."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def denormalize(self, images: Tensor) -> Tensor:
        """Return pixels, 0 … 255 for images of files: (…, C, H, W) float32 to float32."""
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return (images * std + mean) * 255


def _of_bytes(largest: float) -> str:
    """Advice for a mean or a std of pixels in 0 … 255."""
    return "; divide by 255" if 1 < largest <= 255 else ""


def read_image(path: str | Path, preprocessing: Preprocessing) -> Tensor:
    """Return the pixels of an image file, (C, H, W) uint8, oriented by its EXIF entry.

    Raises:
        ValueError: the file is no image, too large, or the network reads neither 1 nor 3 channels.
        FileNotFoundError: there is no such file.
    """
    try:
        with Image.open(path) as file:
            require_few_pixels("the image", *file.size)  # nothing is decoded yet
            image = ImageOps.exif_transpose(file)
            image.format = file.format
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except TooManyPixels as error:
        raise TooManyPixels(f"{path}: {error}") from None
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"{path}: it has too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow raises SyntaxError for a broken PNG.
        raise ValueError(f"{path}: not an image that can be read ({error})") from error
    try:
        return preprocessing.pixels(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def require_few_pixels(what: str, width: int, height: int) -> None:
    """Check a size before memory is taken for it.

    Raises:
        TooManyPixels: it is more than ``MOST_PIXELS``.
    """
    if width * height > MOST_PIXELS:
        raise TooManyPixels(
            f"{what} has {width:,} × {height:,} pixels, and at most {MOST_PIXELS:,} are decoded; "
            "make it smaller or crop it"
        )


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit image to 8 bits, where Pillow would clip it; return any other as it is.

    Raises:
        ValueError: pixels are 32-bit numbers, whose range is unknown.
    """
    short_integers = image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS
    if short_integers or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"pixels are 32-bit numbers (mode {image.mode}), whose range is unknown; "
            "save 8 or 16 bits"
        )
    return image


def _resize_shorter_side(
    image: Image.Image, length: int, interpolation: Interpolation
) -> Image.Image:
    """Scale the shorter side to ``length`` pixels and round the longer down, as torchvision."""
    short = min(image.size)
    if short == length:
        return image
    width, height = (length * side // short for side in image.size)
    require_few_pixels(f"the image of {image.width} × {image.height}, scaled,", width, height)
    return image.resize((width, height), Image.Resampling[interpolation.upper()])


def _resize_to_cover(
    pixels: Tensor, height: int, width: int, interpolation: Interpolation
) -> Tensor:
    """Scale (C, H, W) uint8 pixels so that they just cover ``height`` × ``width``."""
    factor = max(height / pixels.shape[1], width / pixels.shape[2])
    if factor == 1:
        return pixels
    size = [
        max(height, round(pixels.shape[1] * factor)),
        max(width, round(pixels.shape[2] * factor)),
    ]
    require_few_pixels(f"the image of {pixels.shape[2]} × {pixels.shape[1]}, scaled,", *size)
    smooth = factor < 1 and interpolation != "nearest"
    resized = interpolate(pixels[None].float(), size=size, mode=interpolation, antialias=smooth)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


def _center_crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """Crop the middle of (C, H, W) pixels; half a pixel is rounded to even, as in torchvision."""
    top = round((pixels.shape[1] - height) / 2)
    left = round((pixels.shape[2] - width) / 2)
    return pixels[:, top : top + height, left : left + width]
