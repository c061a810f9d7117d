from __future__ import annotations

import math

import pytest
import torch

from dynadfq.ops.low_pass import low_pass

SIZES = [(8, 8), (7, 9), (12, 5)]


@pytest.mark.parametrize("size", SIZES)
def test_without_a_cutoff_images_stay(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    torch.testing.assert_close(low_pass(images, 1e9), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cutoff", [0.1, 3.0])
def test_the_mean_of_an_image_stays(size: tuple[int, int], cutoff: float) -> None:
    images = 2 + torch.randn(2, 3, *size)
    torch.testing.assert_close(low_pass(images, cutoff).mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    assert torch.equal(low_pass(torch.ones(1, 1, 8, 8), cutoff), torch.ones(1, 1, 8, 8))


@pytest.mark.parametrize(("u", "v"), [(1, 0), (0, 3), (2, 3), (4, 0)])
def test_a_wave_is_damped_by_its_frequency(u: int, v: int) -> None:
    row, column = torch.arange(8.0)[:, None] / 8, torch.arange(10.0) / 10
    wave = torch.cos(2 * math.pi * (u * row + v * column))[None, None]
    gain = math.exp(-(u**2 + v**2) / (2 * 2.5**2))
    torch.testing.assert_close(low_pass(wave, 2.5), gain * wave, rtol=0, atol=1e-6)


def test_a_cutoff_can_be_that_of_another_size() -> None:
    images = torch.randn(1, 3, 8, 12)
    assert torch.equal(low_pass(images, 80.0, side=224), low_pass(images, 80.0 * 8 / 224))
    assert not torch.allclose(low_pass(images, 80.0), low_pass(images, 80.0, side=224))
