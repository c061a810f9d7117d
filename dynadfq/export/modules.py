"""The modules of integer form. Each computes the same in every engine, whatever the batch
(docs/decisions/0009).

Number types: codes and their sums are whole numbers in float32, exact below 2^24; multipliers are
float32 operations on single elements, which IEEE 754 defines to the bit; sums of floats are made in
float64 and rounded to float32 once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynadfq.export.multiply import FloatInputLayer, like
from dynadfq.quant.bits import penalized
from dynadfq.quant.layers import WIDEST_ACTIVATION, ActivationFakeQuantize
from dynadfq.quant.quantize import SMALLEST_RANGE, levels, quantize


class ActivationCodes(nn.Module):
    """One activation site: codes of a tensor at the width of each image, by gather from a table of
    2^b - 1.
    """

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
        """(B, …) activations and (B or 1, S) widths to (B, …) codes and the (B or 1, 1, …) step
        they lie on.
        """
        n = self.levels.index_select(0, bits[:, self.site]).view(-1, *[1] * (x.dim() - 1))
        step = (self.high - self.low).clamp(min=SMALLEST_RANGE) / n
        return quantize(x, step, torch.round(self.low / step), n), step

    def codes_at(self, bits: int) -> tuple[int, int]:
        """The smallest and the largest code at a width."""
        n = levels(bits)
        quant_min = torch.round(self.low / ((self.high - self.low).clamp(min=SMALLEST_RANGE) / n))
        return int(quant_min), int(quant_min + n)

    @property
    def holds_zero(self) -> bool:
        """Whether 0.0 is a code at every width, so that zeros (of padding, of a ReLU) are exact."""
        return bool(self.low <= 0 <= self.high)


class SelectorCodes(nn.Module):
    """The bit selector: float64 sums, then the index of the best candidate at a multiplier, then
    its width from a table.

    Args:
        pool: averages of what it reads, not flattened.
        hidden, choice: its two layers.
        widths: (M,) candidates in bits, int64.
        costs: (dynamic sites, M) float64, percent of the float model's bit-FLOPs.
        multiplier: () float64, nats for each percentage point, where the caller gives none.
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
        self.pool, self.hidden, self.choice = pool, hidden, choice
        for name, value in (("widths", widths), ("costs", costs), ("multiplier", multiplier)):
            self.register_buffer(name, value.detach().clone())

    def forward(
        self,
        x: Tensor,
        start: Tensor,
        given: Tensor | None = None,
        multiplier: Tensor | None = None,
    ) -> Tensor:
        """(B, C, H, W) activation and the (1, S) widths of what runs before it to (B, S) widths in
        bits.
        """
        if given is not None:
            return given
        logits = self.choice(self.hidden.in_float64(self.pool.in_float64(x).flatten(1)))
        worth = penalized(
            logits.view(-1, *self.costs.shape),
            self.costs,
            self.multiplier if multiplier is None else multiplier,
        )
        fixed = start.shape[1] - self.costs.shape[0]
        before = start[:, :fixed].expand(logits.shape[0], -1)
        return torch.cat([before, self.widths[worth.argmax(dim=2)]], dim=1)


class StartingBits(nn.Module):
    """The widths that hold until the selector answers, and throughout where there is none: the
    widest candidate.
    """

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
    """A BatchNorm that stands behind no accumulator of its own, as one multiplication and one
    addition an element.
    """

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
        return self.in_float64(x).float()

    def in_float64(self, x: Tensor) -> Tensor:
        """The same before it is rounded."""
        return torch.matmul(torch.matmul(self.rows, x.double()), self.columns)


class InFloat64(nn.Module):
    """A pointwise function whose last bit engines disagree on (exp, tanh, …), computed in float64
    and rounded once.
    """

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
    """Codes of values that were only moved since they were put on their grid; the step's axes are
    fitted to theirs.
    """
    return torch.round(x / like(step, x))
