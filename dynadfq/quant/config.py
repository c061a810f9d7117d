"""Settings of quantization: widths, granularity, activation ranges; the scheme of a student."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from dynadfq.graph.config import FLOAT_BITS, Placement, SiteSet
from dynadfq.quant.range_config import RangeConfig, RangeSharing, ranges_of
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.quant.selector_config import CandidatesConfig, SelectorShape
from dynadfq.quant.width_config import (
    ACTIVATION_BITS,
    ActivationBits,
    ActivationWidths,
    AllocationConfig,
    MixedWidths,
)
from dynadfq.runtime.config import LINEAGE, PAPER, Config, setting
from dynadfq.runtime.errors import InvalidArgument

SchemeName = Literal["paper", "integer"]
Granularity = Literal["channel", "tensor"]  # weights that share qparams: an output channel, or all
Rounding = Literal["nearest", "squant", "adaround", "block"]
SITES_PART, SELECTOR_PART = "sites", "selector"  # of a student, beside the network's own


class UniformQuantization(Config):
    """Weights of one width, and the uniform activation width that the bit budget is made of."""

    scheme: SchemeName = setting(
        "paper",
        "what is quantized, and to which codes: activations after ReLU or before layers, with "
        "asymmetric weights (paper); or all that engines for 8-bit integers need: symmetric "
        "weights, and every operand and result of layers, additions, concatenations and average "
        "pools, with target_bits for all images and no selector (integer; docs/decisions/0013)",
        source=f"paper: {LINEAGE}; integer: QLinearConv and QLinearAdd of onnxruntime",
    )
    weight_bits: int = setting(
        4,
        "width of every weight; with scheme: integer, 8 bits may overflow on processors without "
        "VNNI, 7 never do",
        unit="bits",
        source=f"{PAPER}, appendix (4-bit models)",
        ge=2,
        le=8,
    )
    weight_granularity: Granularity = setting(
        "channel",
        "what shares a scale and zero point: the weights of an output channel, or all weights of "
        "a layer",
        source=f"channel: {LINEAGE}; tensor: DFQ, and DSG's table 3",
    )
    target_bits: ActivationBits = setting(
        4,
        "uniform width whose bit-FLOPs are the budget; width of every activation of the fixed "
        "student, except those that always have 8 bits (scheme: integer); 32 leaves activations "
        "float32: weights alone are quantized, without ranges and selector",
        unit="bits",
        source=f"{PAPER}, Eq. 10: the 4-bit or 5-bit model; 32: AdaRound; DSG's supplement",
        ge=2,
        le=FLOAT_BITS,
        items=ACTIVATION_BITS,
    )
    placement: Placement = setting(
        "relu_output",
        "activations that are quantized with scheme: paper: ReLU outputs, or every input of a "
        "convolution or linear layer",
        source=f"relu_output: {LINEAGE}",
    )


class QuantizationConfig(UniformQuantization):
    """Widths of weights and activations, placement of quantizers, and rounding of weights."""

    rounding: Rounding = setting(
        "nearest",
        "how weights are rounded before fine-tuning: to the nearest level, or so that errors "
        "cancel in each channel (squant), or as is learned from the synthetic images, layer by "
        "layer (adaround) or, with scales and ranges, block by block (block); all but the first "
        "freeze scale and zero point",
        source="nearest: lineage; squant: arXiv 2202.07471; adaround: arXiv 2004.10568; block: "
        "arXiv 2102.05426, 2203.05740, 2212.07155",
    )
    allocation: AllocationConfig = AllocationConfig()
    ranges: RangeConfig = RangeConfig()
    reconstruction: BlockReconstructionConfig = BlockReconstructionConfig()


class Scheme(UniformQuantization):
    """The quantization scheme of a student: what is needed to build its network again.

    activation_bits: candidate widths, ascending; a single one makes a student of fixed width, and
        32 one of float activations, which has no sites.
    ranges: "per_width" where each of several widths has a clipping range of its own at every site;
        None where all share one, as a single width does.
    mixed: widths of single layers and sites (dynadfq.ptq.mixed_precision); None where all are
        equal.
    folded: the float network had its BatchNorms folded first (dynadfq.graph.fold).
    relu6_as_relu: and its ReLU6 replaced by ReLU.
    """

    activation_bits: ActivationWidths = setting(
        CandidatesConfig().candidates,
        "widths of activations",
        allowed=f"one or more whole numbers in 2 … 8, ascending, or {FLOAT_BITS} alone",
        min_length=1,
        strict=False,
    )
    learned_ranges: bool = RangeConfig().learned
    ranges: RangeSharing = None
    selector: SelectorShape = SelectorShape()
    mixed: MixedWidths | None = None
    folded: bool = False
    relu6_as_relu: bool = False

    @model_validator(mode="after")
    def _target_is_within(self) -> Scheme:
        if not self.activation_bits[0] <= self.target_bits <= self.activation_bits[-1]:
            raise InvalidArgument(
                "target_bits",
                f"must be within activation_bits {list(self.activation_bits)}; "
                f"got {self.target_bits}",
            )
        return self

    @model_validator(mode="after")
    def _ranges_have_widths(self) -> Scheme:
        if self.ranges is not None and not self.dynamic:
            raise InvalidArgument(
                "ranges",
                f"{self.ranges} needs several activation_bits; got {list(self.activation_bits)}",
            )
        return self

    @model_validator(mode="after")
    def _mixed_sites_have_one_width(self) -> Scheme:
        if self.dynamic and self.mixed is not None and self.mixed.activations:
            raise InvalidArgument(
                "mixed",
                "gives single sites a width, and images choose theirs among "
                f"{list(self.activation_bits)}; give one activation width",
            )
        return self

    @model_validator(mode="after")
    def _integer_has_one_width(self) -> Scheme:
        if self.integer and self.dynamic:
            raise InvalidArgument(
                "activation_bits",
                "must be one width with scheme integer, whose files have no per-image widths; "
                f"got {list(self.activation_bits)}; per-image widths: scheme paper",
            )
        return self

    @model_validator(mode="after")
    def _integer_has_no_float_activations(self) -> Scheme:
        if self.integer and self.float_activations:
            raise InvalidArgument(
                "activation_bits",
                "must be in 2 … 8 with scheme integer, whose engines compute in integers; got "
                f"{FLOAT_BITS}; float activations: scheme paper",
            )
        return self

    @classmethod
    def of(cls, quantization: QuantizationConfig, selector: CandidatesConfig | None) -> Scheme:
        """Return the scheme of these settings.

        Without a selector, with scheme integer or float activations, it has the target width alone.

        Raises:
            InvalidArgument: the target is outside the candidate widths.
        """
        shared = quantization.model_dump(include=set(UniformQuantization.model_fields))
        target = quantization.target_bits
        if selector is None or quantization.scheme == "integer" or target == FLOAT_BITS:
            widths: tuple[int, ...] = (target,)
        else:
            widths = selector.candidates
        shape = selector or SelectorShape()
        return cls(
            **shared,
            activation_bits=widths,
            learned_ranges=quantization.ranges.learned,
            ranges=ranges_of(widths, quantization.ranges.per_width),
            selector=SelectorShape(**shape.model_dump(include=set(SelectorShape.model_fields))),
        )

    @property
    def integer(self) -> bool:
        """Whether it is the scheme of integer engines."""
        return self.scheme == "integer"

    @property
    def float_activations(self) -> bool:
        """Whether weights alone are quantized."""
        return self.activation_bits == (FLOAT_BITS,)

    @property
    def sites(self) -> SiteSet:
        """Which tensors are quantized."""
        if self.float_activations:
            return "none"
        return "integer" if self.integer else self.placement

    @property
    def dynamic(self) -> bool:
        """Whether images choose their widths."""
        return len(self.activation_bits) > 1

    def bits_of_layer(self, name: str) -> int:
        """Return the width of a layer's weight."""
        return (self.mixed or MixedWidths()).weights.get(name, self.weight_bits)

    def bits_of_site(self, name: str) -> int:
        """Return the width of a site that no image chooses, or before they choose."""
        return (self.mixed or MixedWidths()).activations.get(name, self.activation_bits[-1])

    @property
    def range_widths(self) -> tuple[int, ...]:
        """The widths that have a range of their own; none where all share one."""
        return () if self.ranges is None else self.activation_bits
