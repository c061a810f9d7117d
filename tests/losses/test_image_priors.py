import math

import pytest
import torch

from dynadfq.losses.image_priors import (
    Jitter,
    clipping,
    image_norm,
    image_prior_term,
    total_variation_l1,
    total_variation_l2,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_total_variation_by_hand():
    image = torch.tensor([[[[0.0, 1.0], [3.0, 7.0]]]])  # rows 1, 4; columns 3, 6; diagonals 7 and 2
    assert total_variation_l1(image).item() == pytest.approx(5 / 2 + 9 / 2 + 7 + 2)
    assert total_variation_l2(image).item() == pytest.approx(math.sqrt(17) + math.sqrt(45) + 7 + 2)
    both = image.repeat(4, 1, 1, 1)
    assert total_variation_l1(both).item() == pytest.approx(16)
    assert total_variation_l2(both).item() == pytest.approx(2 * total_variation_l2(image).item())


@pytest.mark.parametrize("variation", [total_variation_l1, total_variation_l2])
def test_variation_looks_at_differences_alone(images, variation):
    torch.testing.assert_close(variation(images + 5), variation(images), rtol=1e-4, atol=0)
    torch.testing.assert_close(variation(3 * images), 3 * variation(images))
    torch.testing.assert_close(variation(images.flip(3)), variation(images))
    torch.testing.assert_close(variation(images.mT), variation(images))
    flat = torch.ones(2, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(variation(flat), flat)
    assert variation(flat).item() == 0 and not gradient.any()


def test_image_norm_is_the_mean_over_images_and_not_the_norm_of_the_batch():
    images = torch.tensor([[[[3.0, 4.0]]], [[[5.0, 12.0]]]])  # 5 and 13; 13.9 together
    assert image_norm(images).item() == 9.0


def test_the_prior_term_adds_both(images):
    class Step:
        images = torch.tensor([[[[3.0, 4.0]]]])

    term = image_prior_term(0.5)
    assert (term.name, term.weight) == ("image_prior", 0.5)
    assert term.value(Step()).item() == pytest.approx(1 + 5)


def test_jitter_rolls_the_whole_batch_by_one_offset(images):
    jitter = Jitter(2, flip=False)
    stream = rng()
    seen = set()
    for _ in range(200):
        out = jitter(images[:4], stream)
        offsets = [
            (down, across)
            for down in range(-2, 3)
            for across in range(-2, 3)
            if torch.equal(out, images[:4].roll((down, across), (2, 3)))
        ]
        assert len(offsets) == 1
        seen.update(offsets)
    assert len(seen) == 25


def test_jitter_mirrors_half_of_the_batches(images):
    jitter = Jitter(0, flip=True)
    stream = rng()
    mirrored = [torch.equal(jitter(images[:4], stream), images[:4].flip(3)) for _ in range(400)]
    assert 160 < sum(mirrored) < 240
    assert torch.equal(Jitter(0, flip=False)(images[:4], stream), images[:4])


def test_clipped_pixels_are_those_of_a_picture(teacher, images):
    clip = clipping(teacher)
    mean = torch.tensor(teacher.mean).view(3, 1, 1)
    std = torch.tensor(teacher.std).view(3, 1, 1)
    pixels = clip(10 * images) * std + mean
    assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6
    for channel in range(3):  # each has its own range, and reaches both ends
        assert pixels[:, channel].min() < 1e-6 and pixels[:, channel].max() > 1 - 1e-6
    valid = (torch.rand(2, 3, 8, 8, generator=rng()) - mean) / std
    torch.testing.assert_close(clip(valid), valid)
