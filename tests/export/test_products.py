from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.export.modules import AveragePool
from dynadfq.export.products import (
    Geometry,
    averaging_matrix,
    convolve,
    convolve_by_matrices,
    window_matrix,
)

LAYERS = {
    "plain": nn.Conv2d(6, 8, 3),
    "strided": nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(1, 0)),
    "grouped": nn.Conv2d(6, 9, 3, padding=1, groups=3),
    "depthwise": nn.Conv2d(6, 6, 5, padding=2, groups=6),
    "pointwise": nn.Conv2d(6, 4, 1),
    "pointwise, strided": nn.Conv2d(6, 4, 1, stride=2),
    "dilated": nn.Conv2d(6, 4, 3, dilation=2, padding=2),
    "same, uneven": nn.Conv2d(6, 4, (2, 4), padding="same"),
    "reflected": nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 6, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_both_products_are_the_layers_own(name: str, x: Tensor) -> None:
    layer, geometry = LAYERS[name], Geometry.of(LAYERS[name])
    weight = layer.weight.detach().double()
    expected = layer._conv_forward(x, weight, None)
    for product in (convolve, convolve_by_matrices):
        torch.testing.assert_close(product(x, weight, geometry), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("output", [1, 2, 3, 7, 8, 11])
def test_adaptive_pools(output: int, x: Tensor) -> None:
    pool = AveragePool(averaging_matrix(9, output), averaging_matrix(8, output))
    torch.testing.assert_close(
        pool.unrounded(x), F.adaptive_avg_pool2d(x, output), atol=1e-14, rtol=0
    )


@pytest.mark.parametrize("ends", [(False, True), (True, True), (False, False), (True, False)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (8, 8, 0)]
)
def test_window_pools(
    kernel: int, stride: int, padding: int, ends: tuple[bool, bool], x: Tensor
) -> None:
    pool = AveragePool(*(window_matrix(size, kernel, stride, padding, *ends) for size in (9, 8)))
    expected = F.avg_pool2d(x, kernel, stride, padding, *ends)
    torch.testing.assert_close(pool.unrounded(x), expected, atol=1e-14, rtol=0)
