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
    """

    network: fx.GraphModule
    facts: tuple[Fact, ...]
    input_shape: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def dynamic(self) -> bool:
        """Whether images choose their widths."""
        return len(self.widths) > 1

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalised images to (B, classes) logits."""
        return self.run(images)[0]

    @torch.no_grad()
    def run(
        self, images: Tensor, allocation: BitAllocation | None = None, price: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images to (B, classes) logits and (B, S) bits, as ``Student.run``; ``price`` turns the dial.

        Raises:
            ValueError: the allocation is wider than the widest candidate, for which sums were found to be exact.
        """
        given = None if allocation is None else allocation.bits.round().to(torch.int64)
        if given is not None and int(given.max()) > self.widths[-1]:
            raise ValueError(f"{int(given.max())} bits are more than the widest candidate, {self.widths[-1]}")
        dial = None if price is None else torch.tensor(price, dtype=torch.float64)
        logits, bits = self.network(images.contiguous(), given, dial)
        return logits, bits.float()


@torch.no_grad()
def to_codes(student: Student) -> CodeForm:
    """Convert a student; its own form is not changed.

    Logits differ from ``student.eval()`` in the last bits, because BatchNorm is part of the multiplier, and therefore
    by a rounding flip now and then. They do not depend on the batch an image came in, nor on the engine.
    """
    network = deepcopy(student.network).cpu().eval().requires_grad_(False)
    tidy(network)
    shape = student.cost.trace.input_shape
    conversion = Conversion(network, student.scheme.activation_bits, tensor_shapes(network, shape))
    conversion.run(len(student.sites))
    return CodeForm(network, tuple(conversion.facts), shape, student.scheme.activation_bits)
