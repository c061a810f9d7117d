"""An activation site: the module that quantizes a tensor between two operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dynadfq.graph.integer_sites import UNLIMITED
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.fake_quantize import FakeQuantize
from dynadfq.quant.quantize import broadcast_first, choose_qparams, levels, quantize

NOT_CALIBRATED = (0.0, 1.0)  # the range of a new site


class ActivationFakeQuantize(nn.Module):
    """An activation site: quantizes a tensor at the width that each image was allocated.

    Args:
        site: column of this site in a bit allocation.
        bits: width without an allocation: of a student of fixed width, or of the sites before the
            bit selector.
        learned_range: whether ``low`` and ``high`` have gradients.
        limits: bounds that the range never exceeds, because an activation clips to them.
        wide: an allocation of one width for all sites leaves this one at ``bits``.
        fixed_range: (low, high) that follows from the network and is kept; None where it is
            calibrated.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        site: int,
        bits: int,
        learned_range: bool,
        limits: tuple[float, float] = UNLIMITED,
        wide: bool = False,
        fixed_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.site = site
        self.bits = bits
        self.limits = limits
        self.wide = wide
        self.fixed = fixed_range is not None
        low, high = fixed_range or NOT_CALIBRATED
        learned = learned_range and not self.fixed
        self.low = nn.Parameter(torch.tensor(low), requires_grad=learned)
        self.high = nn.Parameter(torch.tensor(high), requires_grad=learned)
        self.quantizing = True
        self.observer: Any = None  # set by `ptq.calibration` for the time of a `with` block

    def forward(
        self, x: Tensor, allocation: BitAllocation | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, …) quantized values and, the (B or 1,) scale of each image.

        In training it is None where images choose among widths.
        """
        if self.observer is not None:
            self.observer.update(x)
        if not self.quantizing:
            return x, None
        if self.training:
            probabilities, widths = self._candidates(allocation, x)
            values = FakeQuantize.apply(x, self.low, self.high, probabilities, widths)
            return values, self._shared_scale(widths)
        if allocation is None:
            bits = x.new_full((1,), self.bits)
        else:
            bits = allocation.bits[:, self.site].detach().to(x)
        scale, quant_min = choose_qparams(self.low, self.high, bits)
        image_scale, image_min, image_levels = (
            broadcast_first(values, x.dim()) for values in (scale, quant_min, levels(bits))
        )
        codes = quantize(x, image_scale, image_min, image_levels)
        return codes * image_scale, scale

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Set the clipping range, extended to contain 0 such that 0.0 has a code.

        It ends at the limits. A fixed range stays as it is.
        """
        if self.fixed:
            return
        least, largest = self.limits
        with torch.no_grad():
            self.low.copy_(low.clamp(least, 0))
            self.high.copy_(high.clamp(0, largest))

    def _shared_scale(self, widths: Tensor) -> Tensor | None:
        """The (1,) scale where one width is that of all images, else None."""
        if widths.numel() > 1:
            return None
        return choose_qparams(self.low.detach(), self.high.detach(), widths.view(1))[0]

    def _candidates(self, allocation: BitAllocation | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and widths, (B or 1, M) each; M is 1 where nothing is learned."""
        if allocation is None:
            return x.new_ones(1, 1), x.new_full((1, 1), self.bits)
        if allocation.probabilities is None or allocation.widths is None:
            widths = allocation.bits[:, self.site, None].detach().to(x)
            return torch.ones_like(widths), widths
        return allocation.probabilities[:, self.site], allocation.widths[None].to(x)

    def extra_repr(self) -> str:
        limits = f"[{self.low.item():.4g}, {self.high.item():.4g}]"
        return f"site={self.site}, bits={self.bits}, range={limits}"
