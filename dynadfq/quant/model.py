"""The student: a quantized network that returns logits and the cost of each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynadfq.graph.bit_flops import FLOAT_OPERATION, CostModel
from dynadfq.graph.config import FLOAT_BITS
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize
from dynadfq.ops.image_batch import require_batch
from dynadfq.ops.precision import to_float32
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.artifact import write_artifact
from dynadfq.quant.bit_budget import BudgetSetting, CostCurve, before_selector
from dynadfq.quant.bits import BitAllocation, checked_widths
from dynadfq.quant.config import Scheme
from dynadfq.quant.input_range import input_range
from dynadfq.quant.insert import insert_quantizers, site_nodes
from dynadfq.quant.layers import WIDEST_ACTIVATION, QuantizedLayer
from dynadfq.quant.packing import quantized_layers, to_tensors
from dynadfq.quant.selector import BitSelector
from dynadfq.quant.width_config import MixedWidths
from dynadfq.runtime.errors import InvalidArgument, shown
from dynadfq.runtime.numbers import real_number
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.fit import require_fitting
from dynadfq.teacher.import_path import warn_without_path


class Student(nn.Module):
    """A quantized classifier.

    ``train()`` is the fake-quantized form with gradients, ``eval()`` the exact form on integer
    codes; BatchNorm and dropout of the network itself stay in eval mode in both. Build one with
    ``dynadfq.quantize``.

    Args:
        module: the float classifier; it is copied.
        input_shape: shape of one image, (C, H, W).
        scheme: bit-widths, sites and selector.
        description: facts about the float network, written beside the weights.
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
        self.scheme = scheme
        self.description = description
        self.provenance: dict[str, Any] = {}  # what `model_card.provenance` returns
        self.site_names = tuple(site.name for site in trace.sites(scheme.sites))
        self.cost = CostModel(
            trace, self.site_names, scheme.weight_bits, (scheme.mixed or MixedWidths()).weights
        )
        pixels = input_range(self.preprocessing) if scheme.integer else None
        inserted = insert_quantizers(network, trace, scheme, self.cost.percent_per_bit, pixels)
        self.network = inserted.requires_grad_(True)
        for site in self.sites:
            site.requires_grad_(scheme.learned_ranges and not site.fixed)
        self.to(parameter.device)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, classes) logits for (B, C, H, W) normalized images."""
        return self.run(images)[0]

    def run(self, images: Tensor, allocation: BitAllocation | None = None) -> tuple[Tensor, Tensor]:
        """Return (B, classes) logits and (B, S) bits.

        Args:
            images: (B, C, H, W) normalized images.
            allocation: used in place of the selector's.

        Raises:
            InvalidArgument: the images have another shape or number type.
        """
        self.require_batch(images)
        logits, used = self.network(images, allocation)
        if used is None:
            used = self.own_allocation
        return to_float32(logits), used.bits.to(images.device).expand(len(images), -1)

    def uniform(self, bits: int) -> BitAllocation:
        """Return one width for all images and all sites that do not always have 8 bits."""
        return self._shared([bits] * len(self.sites))

    def allocation(self, bits: int | Sequence[int]) -> BitAllocation:
        """Return widths that all images share; sites that always have 8 bits keep them.

        Args:
            bits: one width for all sites, or one per site in the order of ``site_names``; 32 alone
                where activations are float32.

        Returns:
            The allocation, (1, S) bits.

        Raises:
            InvalidArgument: a width is not a whole number in 2 … 8, there are not as many as
                sites, or activations are float32 and it is not 32.
        """
        if self.scheme.float_activations:
            if not np.array_equal(bits, FLOAT_BITS):
                raise InvalidArgument(
                    "bits",
                    f"{shown(bits)} given, and this student's activations are float32; leave it "
                    f"out or give {FLOAT_BITS}, or make a student with other activation_bits",
                )
            return self.own_allocation
        return self._shared(checked_widths(bits, len(self.sites), WIDEST_ACTIVATION))

    def _shared(self, widths: Sequence[int]) -> BitAllocation:
        """Return these widths for all images, except at sites that always have 8 bits."""
        own = [
            site.bits if site.wide else bits for site, bits in zip(self.sites, widths, strict=True)
        ]
        return BitAllocation(torch.tensor([own], dtype=torch.float32))

    @property
    def target_widths(self) -> list[int]:
        """The target width of each site, in bits; its own in a student of fixed widths."""
        target = self.scheme.target_bits
        fixed = not self.scheme.dynamic
        return [site.bits if site.wide or fixed else target for site in self.sites]

    @property
    def at_target(self) -> BitAllocation:
        """The target width of each site, for all images."""
        return BitAllocation(torch.tensor([self.target_widths], dtype=torch.float32))

    @property
    def own_allocation(self) -> BitAllocation:
        """The widths of all images where none are chosen; the widest where they are."""
        return BitAllocation(torch.tensor([[float(site.bits) for site in self.sites]]))

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.parameters()).device

    def bit_flops_percent(self, bits: Tensor) -> Tensor:
        """Return the (B,) cost in percent of the float model for (B, S) bits."""
        return self.cost.percent(bits)

    def bit_flops_ratio(self, bits: Tensor) -> Tensor:
        """Return the (B,) float32 cost of (B, S) bits relative to the target widths everywhere.

        It is differentiable (DynaDFQ, Eq. 10).
        """
        target = self.cost.total(self.at_target.bits[0])
        return (self.cost.total(bits) / target.to(bits.device)).float()

    def train(self, mode: bool = True) -> Student:
        """Switch between the fake-quantized and the exact form."""
        self.training = mode
        for module in self.network.modules():
            module.training = False
        for module in (*self.sites, *self.layers, *self._selector_modules):
            module.training = mode
        return self

    @property
    def sites(self) -> list[ActivationFakeQuantize]:
        """Activation quantizers in execution order."""
        return list(site_nodes(self.network))

    @property
    def layers(self) -> list[QuantizedLayer]:
        """The network's layers with quantized weights, without those of the selector."""
        own = set(self._selector_modules)
        modules = self.network.modules()
        return [
            module for module in modules if isinstance(module, QuantizedLayer) and module not in own
        ]

    @property
    def selector(self) -> BitSelector | None:
        """The bit selector, or None in a student of fixed width."""
        return next(
            (module for module in self.network.modules() if isinstance(module, BitSelector)), None
        )

    @property
    def _selector_modules(self) -> list[nn.Module]:
        return [] if self.selector is None else list(self.selector.modules())

    @property
    def dynamic_sites(self) -> int:
        """Number of sites whose width the selector chooses; they are the last ones."""
        return 0 if self.selector is None else self.selector.sites - self.selector.fixed_sites

    @property
    def preprocessing(self) -> Preprocessing:
        """The float network's preprocessing of images."""
        return Preprocessing.of(self.description)

    def require_batch(self, images: Tensor) -> None:
        """Check that images are float32 of the shape that the student's costs hold for.

        Args:
            images: (B, C, H, W).

        Raises:
            InvalidArgument: they are something else.
        """
        require_batch(images, self.cost.trace.input_shape)

    @property
    def multiplier(self) -> float:
        """Lagrange multiplier of the bit budget, in nats per percentage point of bit-FLOPs.

        The percentage is of the float model's bit-FLOPs. 0 is the student as trained; a larger
        multiplier chooses cheaper widths.
        """
        return self.selector.multiplier.item() if self.selector else 0.0

    @multiplier.setter
    def multiplier(self, multiplier: float) -> None:
        selector = self._require_selector("multiplier")
        if not isfinite(multiplier):
            raise InvalidArgument("multiplier", f"{multiplier} is not a finite number")
        selector.multiplier.fill_(multiplier)

    def set_budget(
        self, bit_flops_percent: float, images: SyntheticSet, batch_size: int = 128
    ) -> BudgetSetting:
        """Set the multiplier such that the mean cost of images is within a budget.

        Nothing is trained.

        Args:
            bit_flops_percent: mean cost of an image in percent of the float model; it is not
                exceeded on these images.
            images: synthetic images, or any set with ``batches``.
            batch_size: images in a batch.

        Raises:
            ValueError: the budget is outside the student's range, the student has a fixed width,
                or the images have another shape than the student's input.
        """
        self._require_selector("bit_flops_percent")
        percent = real_number("bit_flops_percent", bit_flops_percent)
        setting = self.cost_curve(images, batch_size).setting(percent)
        self.multiplier = setting.multiplier
        return setting

    @torch.no_grad()
    def cost_curve(self, images: SyntheticSet, batch_size: int = 128) -> CostCurve:
        """Return the cost of images as a function of the multiplier.

        The network runs only as far as the bit selector.

        Raises:
            ValueError: the student has a fixed width, or the images have another shape than its
                input.
        """
        selector = self._require_selector("cost_curve")
        classes = self.description["num_classes"]
        require_fitting(images, self.cost.trace.input_shape, classes)
        first_part = before_selector(self.network)
        training = self.training
        logits = []
        self.eval()
        try:
            for batch in images.batches(batch_size):
                features = first_part(batch.images.to(selector.costs.device), None)
                logits.append(selector.image_logits(features))
        finally:
            self.train(training)
        return CostCurve(selector, torch.cat(logits), self.bit_flops_percent)

    def cost_range(self) -> dict[str, float]:
        """Return the lowest, the target's and the highest cost in percent of the float model."""
        target = self.at_target.bits[0]
        lowest, highest = target.clone(), target.clone()
        if self.scheme.dynamic:
            widths = self.scheme.activation_bits
            lowest, highest = (self.uniform(width).bits[0] for width in (widths[0], widths[-1]))
        before_selector = len(self.sites) - self.dynamic_sites
        lowest[:before_selector] = highest[:before_selector]
        named = {"lowest": lowest, "target": target, "highest": highest}
        return {name: self.cost.at(bits).percent for name, bits in named.items()}

    def _require_selector(self, argument: str) -> BitSelector:
        if self.selector is None:
            raise ValueError(
                f"{argument}: this student has a fixed width, {self.scheme.activation_bits[0]} "
                "bits, and no bit selector; make one with several activation_bits"
            )
        return self.selector

    @property
    def selector_overhead_percent(self) -> float:
        """Cost of the selector's own float32 MACs in percent of the float model's bit-FLOPs."""
        macs = self.selector.macs if self.selector else 0
        return 100.0 * FLOAT_OPERATION * macs / self.cost.float_total

    def keep_zero_in_range(self) -> None:
        """Restore low ≤ 0 ≤ high of learned ranges.

        0.0 then has a code, so that padding and the zeros of a ReLU are exact.
        """
        for site in self.sites:
            site.set_range(site.low, site.high)

    @contextmanager
    def unquantized(self) -> Iterator[Student]:
        """Switch quantization off for this block; blocks may be nested."""
        parts: list[ActivationFakeQuantize | QuantizedLayer] = [*self.sites, *self.layers]
        before = [part.quantizing for part in parts]
        for part in parts:
            part.quantizing = False
        try:
            yield self
        finally:
            for part, quantizing in zip(parts, before, strict=True):
                part.quantizing = quantizing

    def describe(self) -> dict[str, Any]:
        """Return the facts of ``student.json`` (docs/format.md), in types of JSON."""
        macs = self.cost.macs_per_site.tolist()
        layers = quantized_layers(self.network)
        return {
            "cost": {
                **self.cost_range(),
                "selector": self.selector_overhead_percent,
                "float_input_macs": self.cost.float_input_macs_percent,
                "dynamic_sites": self.dynamic_sites,
            },
            "input_shape": list(self.cost.trace.input_shape),
            "layers": {
                name: {"bits": layer.weight_bits, "shape": list(layer.weight.shape)}
                for name, layer in layers.items()
            },
            "multiplier": self.multiplier,
            "provenance": self.provenance,
            "scheme": self.scheme.model_dump(mode="json", exclude_none=True),
            "sites": [
                {"name": name, "macs": round(count)}
                for name, count in zip(self.site_names, macs, strict=True)
            ],
            "teacher": self.description,
        }

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, ``student.json`` and ``card.md`` (docs/format.md).

        Weights are written as packed codes, not as the floats that fine-tuning moves. A student
        that is loaded again gives the same logits bit for bit, and its weights are frozen.

        Raises:
            ArithmeticError: the weights of a channel are almost equal; see ``to_tensors``.
        """
        warn_without_path(self.description.get("architecture"))
        tensors = to_tensors(self.network, self.scheme.activation_bits)
        write_artifact(Path(folder), self.describe(), tensors)
