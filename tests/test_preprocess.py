from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from dynadfq import data
from dynadfq.preprocess import normalised, read_image


def save(path: Path, pixels: Tensor) -> Path:
    Image.fromarray(pixels.squeeze(0).numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()).save(path)
    return path


def test_a_test_image_that_went_through_a_file_is_the_same(tmp_path: Path) -> None:
    small, large = data.load("digits"), data.load("digits", image_size=16)
    for i in range(5):
        path = save(tmp_path / f"{i}.png", small.pixels[i])
        pixels = read_image(path, (1, 16, 16))
        assert torch.equal(pixels, large.pixels[i])
        expected = large.normalise(large.pixels[i : i + 1])[0]
        assert torch.equal(normalised(pixels, large.card.mean, large.card.std), expected)


def test_the_middle_is_kept_and_the_aspect_ratio(tmp_path: Path) -> None:
    pixels = torch.zeros(3, 10, 30, dtype=torch.uint8)
    pixels[0, :, 10:20] = 200
    path = save(tmp_path / "wide.png", pixels)
    assert torch.equal(read_image(path, (3, 10, 10)), pixels[:, :, 10:20])
    assert read_image(path, (3, 5, 5)).shape == (3, 5, 5) and (read_image(path, (3, 5, 5))[0, :, 1:4] == 200).all()
    assert read_image(path, (3, 10, 30)).equal(pixels)
    assert read_image(path, (3, 32, 32)).shape == (3, 32, 32)


def test_grey_and_colour_are_what_the_network_reads(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", torch.full((1, 4, 4), 90, dtype=torch.uint8))
    assert read_image(grey, (3, 4, 4)).unique().tolist() == [90]
    assert read_image(grey, (1, 4, 4)).shape == (1, 4, 4)
    with pytest.raises(ValueError, match="reads 4 channels"):
        read_image(grey, (4, 4, 4))


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"text\.png: not an image that can be read"):
        read_image(tmp_path / "text.png", (3, 4, 4))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png", (3, 4, 4))
