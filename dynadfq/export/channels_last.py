"""Operations between 8-bit kernels, written so that a compiler turns them into plain loops over
channels.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.export.multiply import FloatInputLayer, WeightCodes
from dynadfq.export.products import Geometry


class SignedWeight(nn.Module):
    """In place of ``WeightCodes``: codes that are made signed once, in the type that they are
    multiplied in.
    """

    value: Tensor

    def __init__(self, weight: WeightCodes, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("value", weight.signed(dtype))

    def signed(self, dtype: torch.dtype) -> Tensor:
        """(out, …) codes with 0 for 0.0."""
        return self.value.to(dtype)


class FloatConvolution(nn.Module):
    """A ``FloatInputLayer`` of one group whose output has the channels last.

    Sums are those of the layer that it takes the place of: the same matrix product in float64,
    rounded to float32 once.
    """

    weight: Tensor
    gain: Tensor
    shift: Tensor

    def __init__(self, layer: FloatInputLayer, geometry: Geometry) -> None:
        super().__init__()
        weight = layer.weight.signed(torch.float64)
        self.geometry, self.kernel = geometry, (weight.shape[2], weight.shape[3])
        self.register_buffer("weight", weight.flatten(1))
        self.register_buffer("gain", layer.gain.view(-1, 1))
        self.register_buffer("shift", layer.shift.view(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) floats to (B, out, H', W') float32."""
        stride, dilation, _, pads, mode = self.geometry
        if self.geometry.padded:
            x = F.pad(x, pads, mode=mode)
        height, width = (
            (size - step * (k - 1) - 1) // jump + 1
            for size, k, jump, step in zip(x.shape[2:], self.kernel, stride, dilation, strict=True)
        )
        if self.kernel == (1, 1):
            patches = x[:, :, :: stride[0], :: stride[1]].flatten(2)
        else:
            patches = F.unfold(x, self.kernel, dilation, 0, stride)
        sums = torch.matmul(self.weight, patches.double())
        y = (sums * self.gain + self.shift).float().view(-1, len(self.weight), height, width)
        return y.contiguous(memory_format=torch.channels_last)


class BytePool(nn.Module):
    """The maximum of bytes in windows, as one of shifted images; 0 is the smallest byte and
    pads.
    """

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = (
            _two(n) for n in (pool.kernel_size, pool.stride, pool.padding)
        )

    @staticmethod
    def fits(pool: nn.MaxPool2d) -> bool:
        """Whether the windows are dense and end within the padded image."""
        return _two(pool.dilation) == (1, 1) and not pool.ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) bytes to (B, C, H', W')."""
        for axis, kernel, stride, padding in zip(
            (2, 3), self.kernel, self.stride, self.padding, strict=True
        ):
            around = [0, 0, padding, padding] if axis == 2 else [padding, padding]
            padded = F.pad(x, around) if padding else x
            last = padded.shape[axis] - kernel
            shifted = (padded.narrow(axis, start, last + 1) for start in range(kernel))
            x = reduce(torch.maximum, (_every(part, axis, stride) for part in shifted))
        return x


def _every(x: Tensor, axis: int, stride: int) -> Tensor:
    return x[:, :, ::stride] if axis == 2 else x[:, :, :, ::stride]


def _two(value: int | tuple[int, ...]) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return first, second
