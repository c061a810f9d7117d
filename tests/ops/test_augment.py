from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynadfq.ops.augment import OccasionalCrops, random_flip, random_resized_crop, random_shift

Augment = Callable[[Tensor, torch.Generator], Tensor]
AUGMENTATIONS: dict[str, Augment] = {
    "flip": random_flip,
    "shift": lambda images, rng: random_shift(images, 2, rng),
    "crop": lambda images, rng: random_resized_crop(images, 0.5, rng),
}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> Tensor:
    return torch.randn(32, 3, 8, 10, generator=rng())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_generator_decides_and_images_are_drawn_for_one_by_one(
    batch: Tensor, name: str
) -> None:
    augment = AUGMENTATIONS[name]
    before = batch.clone()
    out = augment(batch, rng(1))
    assert out.shape == batch.shape and torch.equal(batch, before)
    assert torch.equal(out, augment(batch, rng(1)))
    assert not torch.equal(out, augment(batch, rng(2)))
    same = augment(batch[:1].expand_as(batch), rng(1))
    assert len(same.flatten(1).unique(dim=0)) > 1
    changed = batch.clone()
    changed[3:] += 1
    torch.testing.assert_close(augment(changed, rng(1))[:3], out[:3], rtol=0, atol=0)


def test_off_is_the_identity(batch: Tensor) -> None:
    assert torch.equal(random_shift(batch, 0, rng()), batch)
    torch.testing.assert_close(
        random_resized_crop(batch, 1.0, rng())[:, :, 2:-2, 2:-2].mean(),
        batch.mean(),
        atol=0.2,
        rtol=0,
    )


def test_half_of_the_images_are_mirrored(batch: Tensor) -> None:
    images = batch[:1].repeat(1000, 1, 1, 1)
    mirrored = (random_flip(images, rng()) == images.flip(3)).flatten(1).all(dim=1)
    kept = (random_flip(images, rng()) == images).flatten(1).all(dim=1)
    assert torch.equal(kept, ~mirrored) and 430 < mirrored.sum() < 570


def test_a_shift_moves_pixels_and_fills_with_zeros(batch: Tensor) -> None:
    out = random_shift(batch, 2, rng())
    padded = torch.nn.functional.pad(batch, (2,) * 4)
    offsets = set()
    for image, source in zip(out, padded, strict=True):
        matches = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(source[:, row : row + 8, column : column + 10], image)
        ]
        assert len(matches) == 1
        offsets.update(matches)
    assert len(offsets) > 10


def test_a_crop_of_a_ramp_is_a_flatter_ramp_within_its_range() -> None:
    ramp = torch.arange(10.0).expand(64, 1, 8, 10)
    out = random_resized_crop(ramp, 0.5, rng())
    assert out.min() >= 0 and out.max() <= 9
    widths = (out[:, 0, 0, -2] - out[:, 0, 0, 1]) / 7  # the slope is the width of the crop
    assert widths.min() > 0.5 * 0.75**0.5 and widths.max() <= 1 + 1e-5 and widths.std() > 0.05
    heights = random_resized_crop(ramp.mT.contiguous(), 0.5, rng())[:, 0, :, 0]
    areas = widths * (heights[:, -2] - heights[:, 1]) / 7
    assert areas.min() > 0.4 and areas.max() <= 1 + 1e-5


def test_gradients_reach_the_pixels(batch: Tensor) -> None:
    for augment in AUGMENTATIONS.values():
        pixels = batch.clone().requires_grad_()
        augment(pixels, rng()).sum().backward()
        assert pixels.grad is not None and pixels.grad.abs().sum() > 0


def test_crops_come_now_and_then_for_the_whole_batch(batch: Tensor) -> None:
    crops, stream = OccasionalCrops(0.5, 0.25), rng()
    kept = [(crops(batch, stream) == batch).flatten(1).all(dim=1) for _ in range(400)]
    assert all(bool(rows.all()) or not bool(rows.any()) for rows in kept)
    assert 270 < sum(bool(rows.all()) for rows in kept) < 330
    assert torch.equal(OccasionalCrops(0.5, 0.0)(batch, rng()), batch)


def test_a_crop_passes_the_gradient_on(batch: Tensor) -> None:
    images = batch.clone().requires_grad_()
    cropped = OccasionalCrops(0.5, 1.0)(images, rng())
    (gradient,) = torch.autograd.grad(cropped.sum(), images)
    torch.testing.assert_close(
        gradient.sum(), torch.tensor(float(batch.numel())), rtol=1e-4, atol=0
    )
