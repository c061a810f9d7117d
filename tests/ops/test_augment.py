from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resized_crop

from dynadfq.ops.augment import (
    OccasionalCrops,
    Rectangles,
    random_flip,
    random_rectangles,
    random_resized_crop,
    random_shift,
    resized,
)

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


@pytest.mark.parametrize(("height", "width", "smallest"), [(32, 32, 0.5), (8, 10, 0.8), (20, 9, 1)])
def test_rectangles_are_drawn_as_torchvision_draws_them(
    height: int, width: int, smallest: float
) -> None:
    image = torch.empty(1, height, width)
    expected = torch.tensor(
        [RandomResizedCrop.get_params(image, [smallest, 1], [3 / 4, 4 / 3]) for _ in range(800)],
        dtype=torch.float32,
    )
    found = torch.stack(random_rectangles(4000, height, width, smallest, rng()), dim=1)
    assert torch.equal(found, found.round()) and bool((found[:, :2] >= 0).all())
    assert bool((found[:, :2] + found[:, 2:] <= torch.tensor([height, width])).all())
    error = expected.std(dim=0) * (1 / 800 + 1 / 4000) ** 0.5
    assert bool(((found.mean(dim=0) - expected.mean(dim=0)).abs() <= 4.5 * error).all())
    spread = found.std(dim=0), expected.std(dim=0)
    torch.testing.assert_close(*spread, rtol=0.1, atol=0)


def test_where_no_rectangle_fits_it_is_the_largest_at_the_centre() -> None:
    wide = random_rectangles(3, 8, 40, 1.0, rng())  # 8 · 4/3 = 10.67 columns, (40 - 11) / 2 before
    assert [values.tolist() for values in wide] == [[0.0] * 3, [14.0] * 3, [8.0] * 3, [11.0] * 3]
    high = random_rectangles(1, 13, 4, 1.0, rng())  # 4 · 4/3 = 5.33 rows
    assert [values.item() for values in high] == [4.0, 0.0, 5.0, 4.0]


def test_a_crop_is_torchvisions_and_ignores_what_is_outside(batch: Tensor) -> None:
    rectangles = random_rectangles(32, 8, 10, 0.3, rng())
    out = resized(batch, rectangles)
    for image, found, *place in zip(batch, out, *rectangles, strict=True):
        top, left, height, width = (int(value) for value in place)
        expected = resized_crop(image, top, left, height, width, [8, 10], antialias=False)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_crop_by_hand() -> None:
    image = torch.tensor([[[[9.0, 9, 9, 9], [9, 0, 4, 9], [9, 8, 12, 9], [9, 9, 9, 9]]]])
    middle = Rectangles(*(torch.tensor([float(value)]) for value in (1, 1, 2, 2)))
    lines = torch.tensor([0.0, 1, 3, 4])  # a quarter and three quarters between two pixels
    expected = lines + 2 * lines[:, None]
    torch.testing.assert_close(resized(image, middle)[0, 0], expected, rtol=1e-5, atol=1e-5)


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
