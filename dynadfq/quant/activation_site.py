"""An activation site: the module that quantizes a tensor between two operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dynadfq.graph.integer_sites import UNLIMITED
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.fake_quantize import FakeQuantize, PassGradient
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.quantize import broadcast_first, choose_qparams, levels, quantize

NOT_CALIBRATED = (0.0, 1.0)  # the range of a new site


class ActivationFakeQuantize(nn.Module):
    """An activation site: quantizes a tensor at the width that each image was allocated.

    ``low`` and ``high`` are () where all widths share a range, and (M,) where each of M widths has
    its own. A width without a range of its own takes that of the nearest one, the wider of two.

    ``quantizing`` turns it off. ``passes_clipped`` passes the gradient of activations on that a
    range without gradients clips, which otherwise have none.

    Args:
        site: column of this site in a bit allocation.
        bits: width without an allocation: of a student of fixed width, or of the sites before the
            bit selector.
        learned_range: whether ``low`` and ``high`` have gradients.
        limits: bounds that the range never exceeds, because an activation clips to them.
        wide: an allocation of one width for all sites leaves this one at ``bits``.
        fixed_range: (low, high) that follows from the network and is kept; None where it is
            calibrated.
        range_widths: the widths that have a range of their own, ascending; without any, all share
            one.
    """

    low: Tensor
    high: Tensor
    range_of_width: Tensor  # (9,) int64: which range a width of 0 … 8 bits takes

    def __init__(
        self,
        site: int,
        bits: int,
        learned_range: bool,
        limits: tuple[float, float] = UNLIMITED,
        wide: bool = False,
        fixed_range: tuple[float, float] | None = None,
        range_widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.site = site
        self.bits = bits
        self.limits = limits
        self.wide = wide
        self.fixed = fixed_range is not None
        self.range_widths = tuple(range_widths)
        low, high = fixed_range or NOT_CALIBRATED
        learned = learned_range and not self.fixed
        shape = (len(self.range_widths),) if self.range_widths else ()
        self.low = nn.Parameter(torch.full(shape, low), requires_grad=learned)
        self.high = nn.Parameter(torch.full(shape, high), requires_grad=learned)
        self.register_buffer(
            "range_of_width", _nearest(self.range_widths or (bits,)), persistent=False
        )
        self.quantizing = True
        self.passes_clipped = False
        self.observer: Any = None  # set by `ptq.calibration` for the time of a `with` block

    def forward(
        self, x: Tensor, allocation: BitAllocation | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, …) quantized values and the (B or 1,) scale of each image.

        In training the scale is None where images choose among widths.
        """
        if self.observer is not None:
            self.observer.update(x)
        if not self.quantizing:
            return x, None
        if self.training:
            probabilities, widths = self._candidates(allocation, x)
            low, high = self._ranges(widths)
            passes = self.passes_clipped and not self.high.requires_grad
            read = x.detach() if passes else x
            values = FakeQuantize.apply(read, low, high, probabilities, widths)
            if passes:
                values = PassGradient.apply(x, values)
            shared = None if widths.numel() > 1 else _scale(low, high, widths)
            return values, shared
        if allocation is None:
            bits = x.new_full((1,), self.bits)
        else:
            bits = allocation.bits[:, self.site].detach().to(x)
        scale, quant_min = choose_qparams(*self.range_at(bits), bits)
        image_scale, image_min, image_levels = (
            broadcast_first(values, x.dim()) for values in (scale, quant_min, levels(bits))
        )
        codes = quantize(x, image_scale, image_min, image_levels)
        return codes * image_scale, scale

    def range_at(self, bits: Tensor | int) -> tuple[Tensor, Tensor]:
        """Return the bounds of the range at widths.

        Args:
            bits: a width, or a tensor of widths, in bits.

        Returns:
            low and high, each of the shape of ``bits``; () where all widths share a range.
        """
        if not self.range_widths:
            return self.low, self.high
        index = self.range_of_width[torch.as_tensor(bits, device=self.low.device).long()]
        return self.low[index], self.high[index]

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """(low, high) of each width that has a range of its own, or the one that all share."""
        low, high = self.low.detach().view(-1), self.high.detach().view(-1)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Set the clipping range, extended to contain 0 such that 0.0 has a code.

        It ends at the limits. A fixed range stays as it is.

        Args:
            low: lower bound, () of all widths or (M,) of each with a range of its own.
            high: upper bound, likewise.
        """
        if self.fixed:
            return
        least, largest = self.limits
        with torch.no_grad():
            self.low.copy_(low.clamp(least, 0))
            self.high.copy_(high.clamp(0, largest))

    def _ranges(self, widths: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of the candidates in (B or 1, M) widths, with gradient: (M,) where M > 1."""
        return (self.low, self.high) if widths.shape[1] > 1 else self.range_at(widths)

    def _candidates(self, allocation: BitAllocation | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and widths, (B or 1, M) each; M is 1 where nothing is learned."""
        if allocation is None:
            return x.new_ones(1, 1), x.new_full((1, 1), self.bits)
        if allocation.probabilities is None or allocation.widths is None:
            widths = allocation.bits[:, self.site, None].detach().to(x)
            return torch.ones_like(widths), widths
        return allocation.probabilities[:, self.site], allocation.widths[None].to(x)

    def extra_repr(self) -> str:
        ranges = ", ".join(f"[{low:.4g}, {high:.4g}]" for low, high in self.ranges)
        return f"site={self.site}, bits={self.bits}, range={ranges}"


def _nearest(widths: Sequence[int]) -> Tensor:
    """The index of the nearest of some widths, for 0 … 8 bits; the wider of two equally near."""
    found = torch.arange(WIDEST_ACTIVATION + 1)[:, None] - torch.tensor(widths)
    return (2 * found.abs() + (found > 0)).argmin(dim=1)


def _scale(low: Tensor, high: Tensor, widths: Tensor) -> Tensor:
    """The (1,) scale of all images from a width of shape (1, 1)."""
    return choose_qparams(low.detach(), high.detach(), widths)[0].view(1)
