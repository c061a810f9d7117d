"""Products in the number types of integer form: integers in float32, everything else in float64.

onnxruntime's convolution has no float64, but its matrix product has: a float64 convolution is
written as one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Geometry(NamedTuple):
    """Stride, dilation, groups and padding of a convolution; pairs are (vertical, horizontal)."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    pads: tuple[int, int, int, int]  # left, right, top, bottom
    padding_mode: str  # "constant": zeros

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry:
        """Return the geometry of a layer; padding "same" is written out in pixels."""
        left, right, top, bottom = layer._reversed_padding_repeated_twice
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        return cls(
            _pair(layer.stride),
            _pair(layer.dilation),
            layer.groups,
            (left, right, top, bottom),
            mode,
        )

    @property
    def padded(self) -> bool:
        """Whether the input is padded."""
        return any(self.pads)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    vertical, horizontal = values
    return vertical, horizontal


def convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return the convolution of (B, C, H, W) with (out, C / groups, h, w), in their type."""
    left, right, top, bottom = geometry.pads
    padding = (top, left)
    if geometry.padding_mode != "constant" or (left, top) != (right, bottom):
        x = F.pad(x, geometry.pads, mode=geometry.padding_mode)
        padding = (0, 0)
    return F.conv2d(x, weight, None, geometry.stride, padding, geometry.dilation, geometry.groups)


def convolve_by_matrices(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Return as ``convolve``, by patches and one matrix product per image and group."""
    if geometry.padded:
        x = F.pad(x, geometry.pads, mode=geometry.padding_mode)
    kernel = (weight.shape[2], weight.shape[3])
    height, width = (
        (size - dilation * (k - 1) - 1) // stride + 1
        for size, k, stride, dilation in zip(
            x.shape[2:], kernel, geometry.stride, geometry.dilation, strict=True
        )
    )
    pointwise = kernel == (1, 1) and geometry.stride == (1, 1)
    patches = x if pointwise else F.unfold(x, kernel, geometry.dilation, 0, geometry.stride)
    depth = weight[0].numel()
    columns = patches.reshape(-1, geometry.groups, depth, height * width)
    rows = weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, depth)
    return torch.matmul(rows, columns).reshape(-1, weight.shape[0], height, width)


def averaging_matrix(size: int, output: int) -> Tensor:
    """Return the (output, size) float64 matrix of ``nn.AdaptiveAvgPool2d`` along one axis.

    >>> averaging_matrix(3, 2)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    rows = torch.zeros(output, size, dtype=torch.float64)
    for index in range(output):
        first = index * size // output
        last = -(-(index + 1) * size // output)
        rows[index, first:last] = 1.0 / (last - first)
    return rows


def window_matrix(
    size: int,
    kernel: int,
    stride: int,
    padding: int,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the (output, size) float64 matrix of ``nn.AvgPool2d`` along one axis.

    >>> window_matrix(4, 2, 2, 0)
    tensor([[0.5000, 0.5000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.5000, 0.5000]], dtype=torch.float64)
    """
    impulses = torch.eye(size, dtype=torch.float64)[None, None]
    rows = F.avg_pool2d(
        impulses, (kernel, 1), (stride, 1), (padding, 0), ceil_mode, count_include_pad
    )
    return rows[0, 0]
