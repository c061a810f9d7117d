"""A fine-tuned student as a code form: one graph of integer products and one multiplier an image and channel."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from dynadfq.deploy.conversion import Conversion, tensor_shapes
from dynadfq.deploy.facts import Fact
from dynadfq.deploy.tidy import tidy
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.model import Student


@dataclass(frozen=True)
class CodeForm:
    """A student that computes on integer codes.

    network: (B, C, H, W) float32 images and, optionally, (B or 1, S) int64 widths to (B, classes) logits and
        (B, S) int64 widths. A third argument is the dial's price, () float64; without it, the student's.
    facts: how each layer is computed, and why one is not computed in integers of float32.
    widths: candidates in bits, ascending.
    widest: the largest width that sums were found to be exact for, in bits.
    """

    network: fx.GraphModule
    facts: tuple[Fact, ...]
    input_shape: tuple[int, ...]
    widths: tuple[int, ...]
    widest: int

    @property
    def dynamic(self) -> bool:
        """Whether images choose their widths."""
        return len(self.widths) > 1

    def to(self, device: torch.device | str) -> CodeForm:
        """Move the network in place."""
        self.network.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images to (B, classes) logits."""
        return self.run(images)[0]

    @torch.no_grad()
    def run(
        self, images: Tensor, allocation: BitAllocation | None = None, price: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images to (B, classes) logits and (B, S) bits, as ``Student.run``; ``price`` turns the dial.

        Raises:
            ValueError: the allocation is wider than ``widest``.
        """
        logits, bits = self.network(*self.arguments(images, allocation, price))
        return logits, bits.float()

    def arguments(
        self, images: Tensor, allocation: BitAllocation | None, price: float | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What ``network`` takes.

        Raises:
            ValueError: the allocation is wider than ``widest``.
        """
        given = None if allocation is None else allocation.bits.round().to(images.device, torch.int64)
        if given is not None and (asked := int(given.max())) > self.widest:
            raise ValueError(f"{asked} bits: sums are known to be exact up to {self.widest}; to_codes(widest={asked})")
        dial = None if price is None else torch.tensor(price, dtype=torch.float64, device=images.device)
        return images.contiguous(), given, dial


@torch.no_grad()
def to_codes(student: Student, widest: int | None = None) -> CodeForm:
    """Convert a student; its own form is not changed.

    ``widest`` is the largest width in bits that an allocation from outside may ask for; left out, the widest candidate.

    Logits differ from ``student.eval()`` in the last bits, because BatchNorm is part of the multiplier, and therefore
    by a rounding flip now and then. They do not depend on the batch an image came in, nor on the engine.
    """
    network = deepcopy(student.network).cpu().eval().requires_grad_(False)
    tidy(network)
    shape, widths = student.cost.trace.input_shape, student.scheme.activation_bits
    widest = max(widths[-1], widest or 0)
    conversion = Conversion(network, widths, widest, tensor_shapes(network, shape))
    conversion.run(len(student.sites))
    return CodeForm(network, tuple(conversion.facts), shape, widths, widest)
