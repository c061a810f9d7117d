"""Integer weights, and the layers that multiply by them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.export.products import Geometry, convolve, convolve_by_matrices
from dynadfq.quant.quantize import broadcast_first


class WeightCodes(nn.Module):
    """An integer weight: unsigned codes in bytes, and the zero point of each channel, or of all."""

    codes: Tensor
    zero_point: Tensor

    def __init__(self, codes: Tensor, quant_min: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        integer = torch.int32 if quant_min.abs().max() < 2**31 else torch.int64
        self.register_buffer("codes", (codes - quant_min).to(torch.uint8))
        self.register_buffer("zero_point", (-quant_min).to(integer))

    def signed(self, dtype: torch.dtype) -> Tensor:
        """Return (out, …) codes in which 0 stands for 0.0."""
        return self.codes.to(dtype) - self.zero_point.to(dtype)


class CodeLayer(nn.Module):
    """Multiplies codes by codes, then each image and channel by one multiplier.

    Args:
        weight: integer weight.
        geometry: of a convolution; None for a linear layer.
        gain: (out,) float64, scale of the weight times BatchNorm's gain.
        shift: (out,) float64, bias and BatchNorm's shift.
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
        self.weight = weight
        self.geometry = geometry
        self.codes = codes
        self.wide = wide
        shape = (1, -1, 1, 1) if geometry else (-1,)
        self.register_buffer("gain", gain.float().view(shape))
        self.register_buffer("shift", shift.float().view(shape))

    def forward(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return (B, out, …) values for (B, …) codes with a (B or 1, 1, …) scale."""
        return scaled(self.sums(codes), scale, self.gain, self.shift)

    def sums(self, codes: Tensor) -> Tensor:
        """Return the accumulators in float32; they are whole, and exact below 2^24."""
        return self.exact_sums(codes).float()

    def exact_sums(self, codes: Tensor) -> Tensor:
        """Return the exact accumulators, integers in float32 or float64."""
        dtype = torch.float64 if self.wide else torch.float32
        x = codes.to(dtype)
        weight = self.weight.signed(dtype)
        if self.geometry is None:
            return F.linear(x, weight).round()
        # Rounding removes the error of a Winograd algorithm, and keeps a runtime from merging the
        # multiplier into the weights.
        product = convolve_by_matrices if self.wide else convolve
        return product(x, weight, self.geometry).round()


class FloatInputLayer(nn.Module):
    """Multiplies floats by weight codes, in layers that read no quantized activation.

    Args:
        weight: integer weight.
        geometry: of a convolution; None for a linear layer.
        gain, shift: as for ``CodeLayer``.
        exact: compute in float64, since activations after it are rounded to codes.
    """

    gain: Tensor
    shift: Tensor

    def __init__(
        self,
        weight: WeightCodes,
        geometry: Geometry | None,
        gain: Tensor,
        shift: Tensor,
        exact: bool,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.geometry = geometry
        self.dtype = torch.float64 if exact else torch.float32
        shape = (1, -1, 1, 1) if geometry else (-1,)
        self.register_buffer("gain", gain.to(self.dtype).view(shape))
        self.register_buffer("shift", shift.to(self.dtype).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, …) float32 values for (B, …) floats."""
        return self.values(x).float()

    def values(self, x: Tensor) -> Tensor:
        """Return (B, out, …) values for (B, …) floats, in the type that they are computed in."""
        x = x.to(self.dtype)
        weight = self.weight.signed(self.dtype)
        if self.geometry is None:
            sums = F.linear(x, weight)
        else:
            product = convolve_by_matrices if self.dtype == torch.float64 else convolve
            sums = product(x, weight, self.geometry)
        return sums * self.gain + self.shift


def scaled(sums: Tensor, scale: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Return the values of (B, out, …) sums, with one multiplier per image and channel."""
    return sums * (broadcast_first(scale, sums.dim()) * gain) + shift
