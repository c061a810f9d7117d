"""Integer weights, and the layers that multiply by them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.export.products import Geometry, convolve, convolve_by_matrices


class WeightCodes(nn.Module):
    """An integer weight: unsigned codes in bytes, and the code of 0.0 of each output channel (or of
    all).
    """

    codes: Tensor
    zero_point: Tensor

    def __init__(self, codes: Tensor, quant_min: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("codes", (codes - quant_min).to(torch.uint8))
        self.register_buffer(
            "zero_point",
            (-quant_min).to(torch.int32 if quant_min.abs().max() < 2**31 else torch.int64),
        )

    def signed(self, dtype: torch.dtype) -> Tensor:
        """(out, …) codes with 0 for 0.0."""
        return self.codes.to(dtype) - self.zero_point.to(dtype)


class CodeLayer(nn.Module):
    """Multiplies codes by codes, and each image and channel by one multiplier; BatchNorm is part of
    it.

    Args:
        weight: integer weight.
        geometry: of a convolution; None for a linear layer.
        gain, shift: (out,) float64, what follows the sums: step of the weight times BatchNorm's
            gain; bias and shift.
        codes: the smallest and the largest code in its input, at the widest candidate.
        wide: sum in float64, since float32 would not be exact.
    """

    gain: Tensor
    shift: Tensor

    def __init__(
        self,
        weight: WeightCodes,
        geometry: Geometry | None,
        gain: Tensor,
        shift: Tensor,
        codes: tuple[int, int],
        wide: bool,
    ) -> None:
        super().__init__()
        self.weight, self.geometry, self.codes, self.wide = weight, geometry, codes, wide
        shape = (1, -1, 1, 1) if geometry else (-1,)
        self.register_buffer("gain", gain.float().view(shape))
        self.register_buffer("shift", shift.float().view(shape))

    def forward(self, codes: Tensor, step: Tensor) -> Tensor:
        """(B, …) codes and the (B or 1, 1, …) step they lie on to (B, out, …) values."""
        return scaled(self.sums(codes), step, self.gain, self.shift)

    def sums(self, codes: Tensor) -> Tensor:
        """The exact accumulators, whole numbers in float32."""
        dtype = torch.float64 if self.wide else torch.float32
        x, weight = codes.to(dtype), self.weight.signed(dtype)
        if self.geometry is None:
            return F.linear(x, weight).round().float()
        # Rounding undoes what a Winograd algorithm may have left, and keeps a runtime from merging
        # the multiplier into the weights.
        product = convolve_by_matrices if self.wide else convolve
        return product(x, weight, self.geometry).round().float()


class FloatInputLayer(nn.Module):
    """Multiplies floats by weight codes, in float64: for layers that read no quantized
    activation.
    """

    gain: Tensor
    shift: Tensor

    def __init__(
        self, weight: WeightCodes, geometry: Geometry | None, gain: Tensor, shift: Tensor
    ) -> None:
        super().__init__()
        self.weight, self.geometry = weight, geometry
        shape = (1, -1, 1, 1) if geometry else (-1,)
        self.register_buffer("gain", gain.double().view(shape))
        self.register_buffer("shift", shift.double().view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) floats to (B, out, …) float32."""
        return self.in_float64(x).float()

    def in_float64(self, x: Tensor) -> Tensor:
        """(B, …) floats to (B, out, …) float64."""
        x, weight = x.double(), self.weight.signed(torch.float64)
        sums = (
            F.linear(x, weight)
            if self.geometry is None
            else convolve_by_matrices(x, weight, self.geometry)
        )
        return sums * self.gain + self.shift


def scaled(sums: Tensor, step: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """(B, out, …) sums to values: one multiplier an image and channel."""
    return sums * (like(step, sums) * gain) + shift


def like(step: Tensor, x: Tensor) -> Tensor:
    """A (B or 1, 1, …) step with as many axes as x."""
    return step.view(-1, *[1] * (x.dim() - 1))
