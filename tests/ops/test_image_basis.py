"""Images as pixels and as scaled coefficients of cosines."""

from __future__ import annotations

import pytest
import torch

from dynadfq.ops.image_basis import CosineBasis, PixelBasis, cosines

SIZES = [(8, 8), (7, 9), (12, 5)]
CPU = torch.device("cpu")


@pytest.mark.parametrize("n", [1, 2, 7, 32])
def test_cosines_are_orthonormal(n: int) -> None:
    torch.testing.assert_close(cosines(n) @ cosines(n).T, torch.eye(n))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [PixelBasis, CosineBasis])
def test_images_are_those_of_their_coefficients(
    kind: type[PixelBasis | CosineBasis], size: tuple[int, int]
) -> None:
    images, basis = torch.randn(2, 3, *size), kind(*size, CPU)
    torch.testing.assert_close(basis.images(basis.coefficients(images)), images)
    torch.testing.assert_close(basis.images(basis.coefficients(images)[1:]), images[1:])


@pytest.mark.parametrize("size", SIZES)
def test_each_coefficient_of_noise_is_scaled_and_no_other_moves(size: tuple[int, int]) -> None:
    noise, basis = torch.randn(2, 3, *size), CosineBasis(*size, CPU)
    unscaled = cosines(size[0]) @ noise @ cosines(size[1]).T
    torch.testing.assert_close(basis.from_noise(noise), unscaled)
    image = cosines(size[0]).T @ (unscaled * basis.scale) @ cosines(size[1])
    torch.testing.assert_close(basis.images(basis.from_noise(noise)), image)


def test_the_scale_is_the_inverse_frequency() -> None:
    scale = CosineBasis(4, 4, CPU).scale
    assert scale[0, 0] == scale[0, 1] == scale[1, 0]
    for row, column in [(0, 2), (3, 0), (2, 3)]:
        frequency = (row**2 + column**2) ** 0.5
        assert float(scale[0, 1] / scale[row, column]) == pytest.approx(frequency, rel=1e-6)
    assert float(scale.square().mean()) == pytest.approx(1)


def test_noise_of_variance_1_gives_pixels_of_variance_1() -> None:
    noise = torch.randn(512, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    basis = CosineBasis(8, 8, CPU)
    images = basis.images(basis.from_noise(noise))
    assert float(images.square().mean()) == pytest.approx(1, rel=0.03)


def test_a_wide_image_is_treated_as_a_tall_one() -> None:
    tall, wide = CosineBasis(12, 5, CPU), CosineBasis(5, 12, CPU)
    torch.testing.assert_close(tall.scale, wide.scale.T)


def test_products_are_float32_under_bfloat16() -> None:
    noise, basis = torch.randn(1, 3, 8, 8), CosineBasis(8, 8, CPU)
    expected = basis.images(basis.from_noise(noise))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(basis.images(basis.from_noise(noise)), expected)
