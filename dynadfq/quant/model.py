"""The student: a quantized network that answers with logits and knows what each image cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynadfq.graph.bit_flops import FLOAT_OPERATION, CostModel
from dynadfq.graph.normalize import normalize
from dynadfq.graph.trace import describe
from dynadfq.ops.precision import to_float32
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.quant.bit_budget import BudgetSetting, CostCurve
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.insert import Scheme, SelectorShape, insert_quantizers, site_nodes
from dynadfq.quant.layers import ActivationFakeQuantize, QuantizedLayer
from dynadfq.quant.save import save_student
from dynadfq.quant.selector import BitSelector
from dynadfq.synthesis.dataset import SyntheticSet


class Student(nn.Module):
    """A float classifier, quantized.

    ``train()`` is the fake-quantized form with gradients, ``eval()`` the exact one on integer
    codes; BatchNorm and dropout of the network itself stay in eval mode in both. Build one with
    ``dynadfq.quantize``.

    Args:
        module: the float classifier; it is copied.
        input_shape: shape of one image, (C, H, W).
        scheme: widths, sites and selector.
        description: what is known of the float network; written beside the weights.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        scheme: Scheme,
        description: dict[str, Any],
    ) -> None:
        super().__init__()
        parameter = next(module.parameters())
        network = normalize(module, torch.zeros(1, *input_shape, device=parameter.device))
        trace = describe(network, input_shape)
        self.scheme, self.description = scheme, description
        self.provenance: dict[
            str, Any
        ] = {}  # how: what `dynadfq.quant.model_card.made` returns, empty where it is not recorded
        self.site_names = tuple(site.name for site in trace.sites(scheme.placement))
        self.cost = CostModel(trace, self.site_names, scheme.weight_bits)
        inserted = insert_quantizers(network, trace, scheme, self.cost.percent_per_bit)
        self.network = inserted.requires_grad_(True)
        for site in self.sites:
            site.requires_grad_(scheme.learned_ranges)
        self.to(parameter.device)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) normalized images to (B, classes) logits."""
        return self.run(images)[0]

    def run(self, images: Tensor, allocation: BitAllocation | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) images to (B, classes) logits and (B, S) bits; ``allocation`` overrides the
        selector.
        """
        logits, used = self.network(images, allocation)
        if used is None:
            used = uniform(self.scheme.activation_bits[-1], len(self.sites))
        return to_float32(logits), used.bits.to(images.device).expand(len(images), -1)

    def bit_flops_percent(self, bits: Tensor) -> Tensor:
        """Cost of images in percent of the float model: (B, S) bits to (B,)."""
        return self.cost.percent(bits)

    def bit_flops_ratio(self, bits: Tensor) -> Tensor:
        """Cost relative to the target width everywhere: (B, S) bits to (B,) float32, differentiable
        (Eq. 10).
        """
        target = self.cost.total(torch.full((len(self.sites),), float(self.scheme.target_bits)))
        return (self.cost.total(bits) / target.to(bits.device)).float()

    def train(self, mode: bool = True) -> Student:
        """Switch between the fake-quantized and the exact form."""
        self.training = mode
        for module in self.network.modules():
            module.training = False
        for module in (
            *self.sites,
            *self.layers,
            *(self.selector.modules() if self.selector else ()),
        ):
            module.training = mode
        return self

    @property
    def sites(self) -> list[ActivationFakeQuantize]:
        """Activation quantizers in execution order."""
        return list(site_nodes(self.network))

    @property
    def layers(self) -> list[QuantizedLayer]:
        """The network's layers with quantized weights; the selector's own are not among them."""
        own = set(self.selector.modules()) if self.selector else set()
        return [
            module
            for module in self.network.modules()
            if isinstance(module, QuantizedLayer) and module not in own
        ]

    @property
    def selector(self) -> BitSelector | None:
        """The bit selector, or None in a student of fixed width."""
        return next(
            (module for module in self.network.modules() if isinstance(module, BitSelector)), None
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes what the network reads; the float network's."""
        return Preprocessing.of(self.description)

    def require_shape(self, images: Tensor) -> None:
        """See that images, (N, C, H, W), are of the shape the student was made for: its costs hold
        for no other.

        Raises:
            ValueError: names both shapes.
        """
        given, read = tuple(images.shape[1:]), tuple(self.cost.trace.input_shape)
        if given != read:
            raise ValueError(
                f"images: of shape {given} each, but this student reads {read}; prepare them with student.preprocessing"
            )

    @property
    def multiplier(self) -> float:
        """The budget: nats that a percentage point of the float model's bit-FLOPs costs; 0 is the
        student as trained.
        """
        return self.selector.multiplier.item() if self.selector else 0.0

    @multiplier.setter
    def multiplier(self, multiplier: float) -> None:
        if self.selector is None:
            raise ValueError(f"multiplier: {self._one_width}")
        if not isfinite(multiplier):
            raise ValueError(f"multiplier: {multiplier} is not a finite number")
        self.selector.multiplier.fill_(multiplier)

    def set_budget(
        self, bit_flops_percent: float, images: SyntheticSet, batch_size: int = 128
    ) -> BudgetSetting:
        """Set the multiplier so that images like these cost as much as a budget allows, on average;
        nothing is trained.

        Args:
            bit_flops_percent: mean cost of an image, percent of the float model's; it is not
                exceeded on these images.
            images: synthetic images, or any set that gives ``batches``.

        Raises:
            ValueError: the budget is outside what this student can choose, the student has one
                width only, or images are of another shape than it reads.
        """
        if self.selector is None:
            raise ValueError(f"bit_flops_percent: {self._one_width}")
        setting = CostCurve.of(self, images, batch_size).setting(bit_flops_percent)
        self.multiplier = setting.multiplier
        return setting

    @property
    def _one_width(self) -> str:
        return (
            f"this student has one width, {self.scheme.activation_bits[0]} bits, and nothing to choose; "
            "make one with several activation_bits"
        )

    @property
    def selector_overhead_percent(self) -> float:
        """What the selector itself costs: its float32 MACs in percent of the float model's
        bit-FLOPs.
        """
        return (
            100.0
            * FLOAT_OPERATION
            * (self.selector.macs if self.selector else 0)
            / self.cost.float_total
        )

    @torch.no_grad()
    def keep_zero_in_range(self) -> None:
        """Bring learned ranges back to low ≤ 0 ≤ high, so that 0.0 stays a code (padding and ReLU
        zeros are exact).
        """
        for site in self.sites:
            site.low.clamp_(max=0)
            site.high.clamp_(min=0)

    @contextmanager
    def unquantized(self) -> Iterator[Student]:
        """Within this block the student computes what the float model computes; blocks may be
        nested.
        """
        parts: list[ActivationFakeQuantize | QuantizedLayer] = [*self.sites, *self.layers]
        before = [part.quantizing for part in parts]
        for part in parts:
            part.quantizing = False
        try:
            yield self
        finally:
            for part, quantizing in zip(parts, before, strict=True):
                part.quantizing = quantizing

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, ``student.json`` and ``card.md``: what evaluation computes
        with, and no more.

        Weights are written as packed codes (docs/format.md), not as the floats that fine-tuning
        moves; a student that is loaded again evaluates to the same bits, and its weight grids are
        fixed.
        """
        save_student(self, Path(folder))


def scheme_from_json(card: dict[str, Any]) -> Scheme:
    """Read back what ``Student.save`` wrote under ``scheme``."""
    values = {
        **card,
        "activation_bits": tuple(card["activation_bits"]),
        "selector": SelectorShape(**card["selector"]),
    }
    return Scheme(**values)
