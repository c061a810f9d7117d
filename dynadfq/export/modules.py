"""The modules of integer form: the same result in every engine and batch (docs/decisions/0009).

Number types: codes and their sums are integers in float32, exact below 2^24; multipliers are
float32 operations on single elements, which IEEE 754 defines to the bit; sums of floats are
computed in float64 and rounded to float32 once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynadfq.export.multiply import FloatInputLayer
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.bits import penalized
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.quantize import (
    SMALLEST_RANGE,
    broadcast_first,
    choose_qparams,
    levels,
    quantize,
)


class ActivationCodes(nn.Module):
    """One activation site: codes of a tensor at the width of each image, looked up in a table.

    Bounds are (9,), of widths of 0 … 8 bits, where widths have ranges of their own, else ().
    """

    low: Tensor
    high: Tensor
    levels: Tensor

    def __init__(self, site: ActivationFakeQuantize) -> None:
        super().__init__()
        self.site = site.site
        self.own = site.bits  # its width where images have no choice
        self.always = site.bits if site.wide else None  # a width that no allocation changes
        widths = torch.arange(WIDEST_ACTIVATION + 1)
        low, high = site.range_at(widths)
        self.register_buffer("low", low.detach().clone())
        self.register_buffer("high", high.detach().clone())
        self.register_buffer("levels", levels(widths))

    def forward(self, x: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, …) codes and their (B or 1, 1, …) scale.

        Args:
            x: (B, …) activations.
            bits: (B or 1, S) widths.
        """
        scale, quant_min, n = self.grid(bits, x.dim())
        return quantize(x, scale, quant_min, n), scale

    def grid(self, bits: Tensor, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return scale, smallest code and levels for (B or 1, S) widths, (B or 1, 1, …) each."""
        width = bits[:, self.site]
        n = broadcast_first(self.levels.index_select(0, width), dimensions)
        low, high = self.low, self.high
        if low.dim():
            low, high = (broadcast_first(b.index_select(0, width), dimensions) for b in (low, high))
        scale = (high - low).clamp(min=SMALLEST_RANGE) / n
        return scale, torch.round(low / scale), n

    def qparams(self, bits: int) -> tuple[Tensor, Tensor]:
        """Return the () scale and smallest code at a width."""
        low, high = (b[bits] if b.dim() else b for b in (self.low, self.high))
        return choose_qparams(low, high, bits)

    def code_range(self, bits: int) -> tuple[int, int]:
        """Return the smallest and the largest code at a width."""
        _, quant_min = self.qparams(bits)
        return int(quant_min), int(quant_min + levels(bits))


class SelectorCodes(nn.Module):
    """The bit selector: float64 sums, the index of the best candidate, its width from a table.

    Args:
        pool: average pool of its input.
        hidden: its first layer.
        choice: its second layer.
        widths: (M,) candidates in bits, int64.
        costs: (dynamic sites, M) float64, percent of the float model's bit-FLOPs.
        multiplier: () float64 Lagrange multiplier in nats per percentage point, used where the
            caller gives none.
    """

    widths: Tensor
    costs: Tensor
    multiplier: Tensor

    def __init__(
        self,
        pool: AveragePool,
        hidden: FloatInputLayer,
        choice: FloatInputLayer,
        widths: Tensor,
        costs: Tensor,
        multiplier: Tensor,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.hidden = hidden
        self.choice = choice
        self.register_buffer("widths", widths.detach().clone())
        self.register_buffer("costs", costs.detach().clone())
        self.register_buffer("multiplier", multiplier.detach().clone())

    def forward(
        self,
        x: Tensor,
        start: Tensor,
        given: Tensor | None = None,
        multiplier: Tensor | None = None,
    ) -> Tensor:
        """Return (B, S) widths in bits.

        Args:
            x: (B, C, H, W) activation.
            start: (1, S) widths of the sites that run before the selector.
            given: widths to return in place of the selector's.
            multiplier: () float64, in place of the selector's.
        """
        if given is not None:
            return given
        logits = self.choice(self.hidden.values(self.pool.unrounded(x).flatten(1)))
        if multiplier is None:
            multiplier = self.multiplier
        scores = penalized(logits.view(-1, *self.costs.shape), self.costs, multiplier)
        fixed_sites = start.shape[1] - self.costs.shape[0]
        fixed = start[:, :fixed_sites].expand(logits.shape[0], -1)
        return torch.cat([fixed, self.widths[scores.argmax(dim=2)]], dim=1)


class StartingBits(nn.Module):
    """The widths of sites before the selector, or of all sites without one.

    Args:
        bits: (S,) widths: the widest candidate, except at sites that always have 8 bits.
    """

    bits: Tensor

    def __init__(self, bits: Tensor) -> None:
        super().__init__()
        self.register_buffer("bits", bits[None].to(torch.int64))

    def forward(self, given: Tensor | None = None) -> Tensor:
        """Return (B or 1, S) widths: those given, or the starting ones."""
        return self.bits if given is None else given


class ForEachImage(nn.Module):
    """Repeats the widths that all images share."""

    def forward(self, bits: Tensor, images: Tensor) -> Tensor:
        """Return (B or 1, S) widths as (B, S)."""
        return bits.expand(images.shape[0], -1)


class ScaleShift(nn.Module):
    """A BatchNorm that follows no layer: one multiplication and one addition per element."""

    gain: Tensor
    shift: Tensor

    def __init__(self, gain: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain.float())
        self.register_buffer("shift", shift.float())

    def forward(self, x: Tensor) -> Tensor:
        """Return x · gain + shift for (B, C, …)."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * self.gain.view(shape) + self.shift.view(shape)


class AveragePool(nn.Module):
    """Average pooling along both axes as two matrix products, in the number type of the matrices.

    Args:
        rows: (H', H) weights of the averages.
        columns: (W', W) weights.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, C, H', W') averages of (B, C, H, W)."""
        return self.unrounded(x).float()

    def unrounded(self, x: Tensor) -> Tensor:
        """Return the averages in the number type of the matrices."""
        return torch.matmul(torch.matmul(self.rows, x.to(self.rows.dtype)), self.columns)


class InFloat64(nn.Module):
    """A pointwise function computed in float64 and rounded once.

    Engines disagree on its last bit in float32 (exp, tanh, …).
    """

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of (B, …)."""
        y: Tensor = self.function(x.double()).float()
        return y


def values(codes: Tensor, scale: Tensor) -> Tensor:
    """Return the values of (B, …) codes."""
    return codes * scale


def codes_again(x: Tensor, scale: Tensor) -> Tensor:
    """Return the codes of quantized values that have only been moved, of any number of axes."""
    return torch.round(x / broadcast_first(scale, x.dim()))
