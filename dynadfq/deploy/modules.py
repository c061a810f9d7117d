"""The modules of code form. Each computes the same in every engine, whatever the batch (docs/decisions/0009).

Number types: codes and their sums are whole numbers in float32, exact below 2^24; multipliers are float32 operations on
single elements, which IEEE 754 defines to the bit; sums of floats are made in float64 and rounded to float32 once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.deploy.products import Geometry, convolve, convolve_by_matrices
from dynadfq.quant.layers import WIDEST_ACTIVATION, ActivationFakeQuantize
from dynadfq.quant.numerics import SMALLEST_RANGE, encode, levels


class ActivationCodes(nn.Module):
    """One activation site: codes of a tensor at the width of each image, by gather from a table of 2^b - 1."""

    low: Tensor
    high: Tensor
    levels: Tensor

    def __init__(self, site: ActivationFakeQuantize) -> None:
        super().__init__()
        self.site = site.site
        self.register_buffer("low", site.low.detach().clone())
        self.register_buffer("high", site.high.detach().clone())
        self.register_buffer("levels", levels(torch.arange(WIDEST_ACTIVATION + 1)))

    def forward(self, x: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """(B, …) activations and (B or 1, S) widths to (B, …) codes and the (B or 1, 1, …) step they lie on."""
        n = self.levels.index_select(0, bits[:, self.site]).view(-1, *[1] * (x.dim() - 1))
        step = (self.high - self.low).clamp(min=SMALLEST_RANGE) / n
        return encode(x, step, torch.round(self.low / step), n), step

    def codes_at(self, bits: int) -> tuple[int, int]:
        """The smallest and the largest code at a width."""
        n = levels(bits)
        lowest = torch.round(self.low / ((self.high - self.low).clamp(min=SMALLEST_RANGE) / n))
        return int(lowest), int(lowest + n)

    @property
    def holds_zero(self) -> bool:
        """Whether 0.0 is a code at every width, so that zeros (of padding, of a ReLU) are exact."""
        return bool(self.low <= 0 <= self.high)


class WeightCodes(nn.Module):
    """An integer weight: unsigned codes in bytes, and the code of 0.0 of each output channel (or of all)."""

    codes: Tensor
    zero_point: Tensor

    def __init__(self, codes: Tensor, lowest: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.register_buffer("codes", (codes - lowest).to(torch.uint8))
        self.register_buffer("zero_point", (-lowest).to(torch.int32 if lowest.abs().max() < 2**31 else torch.int64))

    def signed(self, dtype: torch.dtype) -> Tensor:
        """(out, …) codes with 0 for 0.0."""
        return self.codes.to(dtype) - self.zero_point.to(dtype)


class CodeLayer(nn.Module):
    """Multiplies codes by codes, and each image and channel by one multiplier; BatchNorm is part of it.

    Args:
        weight: integer weight.
        geometry: of a convolution; None for a linear layer.
        gain, shift: (out,) float64, what follows the sums: step of the weight times BatchNorm's gain; bias and shift.
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
        return self.scaled(self.sums(codes), step)

    def scaled(self, sums: Tensor, step: Tensor) -> Tensor:
        """(B, out, …) sums to values: one multiplier an image and channel."""
        return sums * (like(step, sums) * self.gain) + self.shift

    def sums(self, codes: Tensor) -> Tensor:
        """The exact accumulators, whole numbers in float32."""
        dtype = torch.float64 if self.wide else torch.float32
        x, weight = codes.to(dtype), self.weight.signed(dtype)
        if self.geometry is None:
            return F.linear(x, weight).round().float()
        # Rounding undoes what a Winograd algorithm may have left, and keeps a runtime from merging the multiplier into
        # the weights.
        product = convolve_by_matrices if self.wide else convolve
        return product(x, weight, self.geometry).round().float()


class FloatInputLayer(nn.Module):
    """Multiplies floats by weight codes, in float64: for layers that read no quantized activation."""

    gain: Tensor
    shift: Tensor

    def __init__(self, weight: WeightCodes, geometry: Geometry | None, gain: Tensor, shift: Tensor) -> None:
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
        sums = F.linear(x, weight) if self.geometry is None else convolve_by_matrices(x, weight, self.geometry)
        return sums * self.gain + self.shift


class SelectorCodes(nn.Module):
    """The bit selector: float64 sums, then the index of the best candidate, then its width from a table."""

    rows: Tensor
    columns: Tensor
    widths: Tensor

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        hidden: FloatInputLayer,
        choice: FloatInputLayer,
        widths: Tensor,
        fixed: int,
    ) -> None:
        super().__init__()
        self.hidden, self.choice, self.fixed = hidden, choice, fixed
        for name, value in (("rows", rows), ("columns", columns.T.contiguous()), ("widths", widths)):
            self.register_buffer(name, value)

    def forward(self, x: Tensor, start: Tensor, given: Tensor | None = None) -> Tensor:
        """(B, C, H, W) activation and the (1, S) widths of what runs before it to (B, S) widths in bits."""
        if given is not None:
            return given
        pooled = torch.matmul(torch.matmul(self.rows, x.double()), self.columns)
        logits = self.choice(self.hidden.in_float64(pooled.flatten(1)))
        best = logits.view(logits.shape[0], -1, self.widths.shape[0]).argmax(dim=2)
        before = start[:, : self.fixed].expand(logits.shape[0], -1)
        return torch.cat([before, self.widths[best]], dim=1)


class StartingBits(nn.Module):
    """The widths that hold until the selector answers, and throughout where there is none: the widest candidate."""

    bits: Tensor

    def __init__(self, sites: int, widest: int) -> None:
        super().__init__()
        self.register_buffer("bits", torch.full((1, sites), widest, dtype=torch.int64))

    def forward(self, given: Tensor | None = None) -> Tensor:
        """(B or 1, S) widths: those given, or the widest."""
        return self.bits if given is None else given


class ForEachImage(nn.Module):
    """Repeats widths that all images share."""

    def forward(self, bits: Tensor, images: Tensor) -> Tensor:
        """(B or 1, S) widths to (B, S)."""
        return bits.expand(images.shape[0], -1)


class ScaleShift(nn.Module):
    """A BatchNorm that stands behind no accumulator of its own, as one multiplication and one addition an element."""

    gain: Tensor
    shift: Tensor

    def __init__(self, gain: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain.float())
        self.register_buffer("shift", shift.float())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, …) to (B, C, …)."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * self.gain.view(shape) + self.shift.view(shape)


class AveragePool(nn.Module):
    """Average pooling along both axes as two float64 matrix products."""

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        return torch.matmul(torch.matmul(self.rows, x.double()), self.columns).float()


class InFloat64(nn.Module):
    """A pointwise function whose last bit engines disagree on (exp, tanh, …), computed in float64 and rounded once."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function.double()

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) to (B, …)."""
        y: Tensor = self.function(x.double()).float()
        return y


def values(codes: Tensor, step: Tensor) -> Tensor:
    """(B, …) codes to the values they stand for."""
    return codes * step


def codes_again(x: Tensor, step: Tensor) -> Tensor:
    """Codes of values that were only moved since they were put on their grid; the step's axes are fitted to theirs."""
    return torch.round(x / like(step, x))


def like(step: Tensor, x: Tensor) -> Tensor:
    """A (B or 1, 1, …) step with as many axes as x."""
    return step.view(-1, *[1] * (x.dim() - 1))
