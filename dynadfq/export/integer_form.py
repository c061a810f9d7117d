"""Integer form: a student as integer products with one multiplier per image and channel."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, fx

from dynadfq.export.conversion import Conversion, tensor_shapes
from dynadfq.export.conversion_report import Fact
from dynadfq.export.graph_edits import tidy
from dynadfq.quant.activation_site import NOT_CALIBRATED
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.layers import WIDEST_ACTIVATION
from dynadfq.quant.model import Student

NARROWEST = 2  # bits
UNCALIBRATED = (
    "this student's activation ranges were never set, so that its predictions mean nothing; "
    "calibrate it first: dynadfq.finetune(…, epochs=0)"
)


@dataclass(frozen=True)
class IntegerForm:
    """A student that computes on integer codes.

    network: maps (B, C, H, W) float32 images, optional (B or 1, S) int64 widths and an optional
        () float64 Lagrange multiplier to (B, classes) logits and (B, S) int64 widths.
    facts: how each layer is computed, and why one is not computed in integers of float32.
    input_shape: shape of one image, (C, H, W).
    widths: candidate widths in bits, ascending; 32 alone where activations are float32.
    widest: the largest width that sums are exact for, in bits.
    wide: whether each activation site always has 8 bits; there is none with float activations.
    """

    network: fx.GraphModule
    facts: tuple[Fact, ...]
    input_shape: tuple[int, ...]
    widths: tuple[int, ...]
    widest: int
    wide: tuple[bool, ...]

    @property
    def dynamic(self) -> bool:
        """Whether images choose their widths."""
        return len(self.widths) > 1

    def to(self, device: torch.device | str) -> IntegerForm:
        """Move the network in place."""
        self.network.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Return (B, classes) logits for (B, C, H, W) normalized images."""
        return self.run(images)[0]

    @torch.no_grad()
    def run(
        self,
        images: Tensor,
        allocation: BitAllocation | None = None,
        multiplier: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (B, classes) logits and (B, S) bits, as ``Student.run`` does.

        Args:
            images: (B, C, H, W) normalized images.
            allocation: used in place of the selector's.
            multiplier: Lagrange multiplier, used in place of the student's.

        Raises:
            ValueError: see ``arguments``.
        """
        logits, bits = self.network(*self.arguments(images, allocation, multiplier))
        return logits, bits.float()

    def arguments(
        self, images: Tensor, allocation: BitAllocation | None, multiplier: float | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the arguments of ``network``.

        Raises:
            ValueError: an allocation does not fit the student's sites or has widths outside
                2 … ``widest``; a multiplier is not finite, or the student has a fixed width.
        """
        bits = None
        if allocation is not None:
            bits = allocation.bits.round().to(images.device, torch.int64)
            self._require_widths(bits)
        if multiplier is None:
            return images.contiguous(), bits, None
        if not self.dynamic:
            raise ValueError(
                f"multiplier: this student has a fixed width, {self.widths[0]} bits, "
                f"and no bit selector; got {multiplier}"
            )
        if not isfinite(multiplier):
            raise ValueError(f"multiplier: {multiplier} is not a finite number")
        value = torch.tensor(multiplier, dtype=torch.float64, device=images.device)
        return images.contiguous(), bits, value

    def _require_widths(self, bits: Tensor) -> None:
        sites = len(self.wide)
        if bits.shape[-1] != sites:
            raise ValueError(
                f"allocation: {bits.shape[-1]} widths per image for {sites} sites; "
                "give one width per site"
            )
        if not sites:
            return
        narrowest = int(bits.min())
        if narrowest < NARROWEST:
            raise ValueError(f"allocation: {narrowest} bits are fewer than {NARROWEST}")
        wide = torch.tensor(self.wide, device=bits.device)
        if (bits[..., wide] != WIDEST_ACTIVATION).any():
            raise ValueError(
                f"allocation: {int(wide.sum())} sites of scheme integer always have "
                f"{WIDEST_ACTIVATION} bits; pass student.uniform(bits)"
            )
        widest = int(bits[..., ~wide].max()) if not wide.all() else 0
        if widest > self.widest:
            advice = f"; to_integer_form(widest={widest})" if widest <= WIDEST_ACTIVATION else ""
            raise ValueError(
                f"allocation: {widest} bits, but sums are exact up to {self.widest} bits{advice}"
            )


@torch.no_grad()
def to_integer_form(student: Student, widest: int | None = None) -> IntegerForm:
    """Return a student's integer form.

    Its logits differ from those of ``student.eval()`` in the last bits, because BatchNorm is part
    of a layer's factor, so that an activation is rounded differently now and then. They depend
    neither on the batch of an image nor on the engine. A student whose activation ranges were never
    set is warned of.

    Args:
        student: the student; it is not changed.
        widest: the largest width in bits of allocations that a caller will give; by default the
            widest candidate.

    Raises:
        ValueError: ``widest`` is beyond 8 bits.
    """
    if widest is not None and widest > WIDEST_ACTIVATION:
        raise ValueError(f"widest: {widest} is outside 2 … {WIDEST_ACTIVATION}")
    if not calibrated(student):
        warnings.warn(UNCALIBRATED, stacklevel=2)
    network = deepcopy(student.network).cpu().eval().requires_grad_(False)
    tidy(network)
    shape = student.cost.trace.input_shape
    widths = student.scheme.activation_bits
    own = [site.bits for site in student.sites if not site.wide]
    widest = max(widths[-1], widest or 0, *own)
    conversion = Conversion(network, widths, widest, tensor_shapes(network, shape))
    conversion.run(student.own_allocation.bits[0])
    wide = tuple(site.wide for site in student.sites)
    return IntegerForm(network, tuple(conversion.facts), shape, widths, widest, wide)


def calibrated(student: Student) -> bool:
    """Return whether the range of any activation site was set, if one has to be."""
    ranges = [bounds for site in student.sites if not site.fixed for bounds in site.ranges]
    return not ranges or any(found != NOT_CALIBRATED for found in ranges)
