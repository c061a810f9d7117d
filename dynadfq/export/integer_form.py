"""A fine-tuned student as a integer form: one graph of integer products and one multiplier an image
and channel.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, fx

from dynadfq.export.conversion import Conversion, tensor_shapes
from dynadfq.export.conversion_report import Fact
from dynadfq.export.tidy import tidy
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.model import Student

NARROWEST = 2  # bits


@dataclass(frozen=True)
class IntegerForm:
    """A student that computes on integer codes.

    network: (B, C, H, W) float32 images and, optionally, (B or 1, S) int64 widths to (B, classes)
        logits and (B, S) int64 widths. A third argument is the budget's multiplier, () float64;
        without it, the student's.
    facts: how each layer is computed, and why one is not computed in integers of float32.
    widths: candidates in bits, ascending.
    widest: the largest width that sums were found to be exact for, in bits.
    """

    network: fx.GraphModule
    facts: tuple[Fact, ...]
    input_shape: tuple[int, ...]
    widths: tuple[int, ...]
    widest: int
    sites: int

    @property
    def dynamic(self) -> bool:
        """Whether images choose their widths."""
        return len(self.widths) > 1

    def to(self, device: torch.device | str) -> IntegerForm:
        """Move the network in place."""
        self.network.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalized images to (B, classes) logits."""
        return self.run(images)[0]

    @torch.no_grad()
    def run(
        self,
        images: Tensor,
        allocation: BitAllocation | None = None,
        multiplier: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images to (B, classes) logits and (B, S) bits, as ``Student.run``;
        ``multiplier`` turns the budget.

        Raises:
            ValueError: the allocation is wider than ``widest``.
        """
        logits, bits = self.network(*self.arguments(images, allocation, multiplier))
        return logits, bits.float()

    def arguments(
        self, images: Tensor, allocation: BitAllocation | None, multiplier: float | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What ``network`` takes.

        Raises:
            ValueError: an allocation is not of this student's sites or of widths in 2 … ``widest``;
                or a multiplier is not finite, or the student has one width.
        """
        given = (
            None if allocation is None else allocation.bits.round().to(images.device, torch.int64)
        )
        if given is not None:
            self._require(given)
        if multiplier is not None and not (self.dynamic and isfinite(multiplier)):
            what = (
                "not a finite number"
                if self.dynamic
                else f"of no use: this student has one width, {self.widths[0]} bits"
            )
            raise ValueError(f"multiplier: {multiplier} is {what}")
        budget = (
            None
            if multiplier is None
            else torch.tensor(multiplier, dtype=torch.float64, device=images.device)
        )
        return images.contiguous(), given, budget

    def _require(self, bits: Tensor) -> None:
        if bits.shape[-1] != self.sites:
            raise ValueError(
                f"allocation: {bits.shape[-1]} widths an image for {self.sites} sites; give one a site"
            )
        if int(bits.min()) < NARROWEST:
            raise ValueError(f"allocation: {int(bits.min())} bits are fewer than {NARROWEST}")
        if (asked := int(bits.max())) > self.widest:
            wider = f"; to_integer_form(widest={asked})" if asked <= WIDEST_ACTIVATION else ""
            raise ValueError(f"{asked} bits: sums are known to be exact up to {self.widest}{wider}")


@torch.no_grad()
def to_integer_form(student: Student, widest: int | None = None) -> IntegerForm:
    """Convert a student; its own form is not changed.

    ``widest`` is the largest width in bits that an allocation from outside may ask for; left out,
    the widest candidate.

    Logits differ from ``student.eval()`` in the last bits, because BatchNorm is part of the
    multiplier, and therefore by a rounding flip now and then. They do not depend on the batch an
    image came in, nor on the engine.

    Raises:
        ValueError: ``widest`` is beyond 8 bits.
    """
    if widest is not None and widest > WIDEST_ACTIVATION:
        raise ValueError(f"widest: {widest} is outside 2 … {WIDEST_ACTIVATION}")
    network = deepcopy(student.network).cpu().eval().requires_grad_(False)
    tidy(network)
    shape, widths = student.cost.trace.input_shape, student.scheme.activation_bits
    widest = max(widths[-1], widest or 0)
    conversion = Conversion(network, widths, widest, tensor_shapes(network, shape))
    conversion.run(len(student.sites))
    return IntegerForm(network, tuple(conversion.facts), shape, widths, widest, len(student.sites))
