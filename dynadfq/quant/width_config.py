"""Bit-widths: of all layers and sites, or of each."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dynadfq.graph.config import FLOAT_BITS
from dynadfq.runtime.config import MAX_COUNT, Config, setting
from dynadfq.runtime.errors import shown

Bits = Annotated[int, Field(ge=2, le=8)]


def _ascending(widths: tuple[int, ...]) -> tuple[int, ...]:
    if any(low >= high for low, high in pairwise(widths)):
        raise ValueError(f"must be ascending without repetition; got {shown(widths)}")
    return widths


def _of_activations(width: int) -> int:
    if width != FLOAT_BITS and not 2 <= width <= 8:
        raise ValueError(f"must be a whole number in {ACTIVATION_BITS}; got {width}")
    return width


def _float_alone(widths: tuple[int, ...]) -> tuple[int, ...]:
    if FLOAT_BITS in widths and len(widths) > 1:
        raise ValueError(
            f"must be {FLOAT_BITS} alone for float activations, or without it; got {shown(widths)}"
        )
    return widths


ACTIVATION_BITS = f"2 … 8, or {FLOAT_BITS} for activations that stay float32"
Widths = Annotated[tuple[Bits, ...], AfterValidator(_ascending)]
ActivationBits = Annotated[int, AfterValidator(_of_activations)]
ActivationWidths = Annotated[
    tuple[ActivationBits, ...], AfterValidator(_ascending), AfterValidator(_float_alone)
]


class AllocationConfig(Config):
    """Widths of weights and activations for each layer: equal, or by their sensitivity."""

    rule: Literal["uniform", "sensitivity"] = setting(
        "uniform",
        "weight_bits and target_bits everywhere, or for each layer and site the width that keeps "
        "the sum of the layers' sensitivities smallest at the same bit-FLOPs; where images choose "
        "the widths of activations, those of weights alone",
        source="sensitivity: ZeroQ, arXiv 2001.00281, Sec. 3.3",
    )
    widths: Widths = setting(
        (2, 3, 4, 5, 6, 8),
        "widths that a layer or site can have (rule: sensitivity)",
        unit="bits",
        allowed="a list of whole numbers in 2 … 8, ascending",
        items="2 … 8",
        min_length=1,
        strict=False,
    )
    images: int = setting(
        256,
        "synthetic images on which sensitivities are measured",
        unit="images",
        ge=1,
        le=MAX_COUNT,
    )
    keep_size: bool = setting(
        False, "weights take no more memory than at weight_bits everywhere (rule: sensitivity)"
    )


class MixedWidths(Config):
    """Widths that differ between layers and sites, the same for all images.

    weights: of layers, by name. activations: of sites, by name. What is missing has the scheme's.
    """

    weights: dict[str, Bits] = Field(default_factory=dict)
    activations: dict[str, Bits] = Field(default_factory=dict)
