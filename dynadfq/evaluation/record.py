"""The content of ``metrics.json``, as the report reads it (``metrics`` says which keys exist when).

A key may be left out only where its default is None.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from dynadfq.runtime.artifact import Record
from dynadfq.runtime.config import Config

Bits = Annotated[int, Field(ge=2, le=8)]
ActivationBits = Annotated[int, Field(ge=2, le=32)]  # 32 is float32
Count = Annotated[int, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Points = Annotated[float, Field(ge=-100, le=100)]
Cost = Annotated[float, Field(ge=0)]  # percent of the float network's bit-FLOPs


class Group(Config):
    """A part of the record; more keys than those that the report reads are kept."""

    model_config = ConfigDict(extra="allow")


class NetworkMetrics(Group):
    """Scores and cost of one network."""

    bit_flops_percent: Cost
    top1: Percent | None = None
    agreement: Percent | None = None
    bits: ActivationBits | None = None
    bit_flops_percent_std: Cost | None = None
    mean_activation_bits: Cost | None = None
    selector_overhead_percent: Cost | None = None


class ComparedMetrics(NetworkMetrics):
    """What the student is compared with: the student's score minus its own, image by image."""

    difference: Points
    standard_error: Annotated[float, Field(ge=0)]
    gained: Count | None = None
    lost: Count | None = None
    p_value: Annotated[float, Field(ge=0, le=1)]


class ControlMetrics(ComparedMetrics):
    """The student's bits given to other images."""

    repeats: Count
    top1_std: Cost | None = None
    agreement_std: Cost | None = None


class QuantizationMetrics(Group):
    """Widths, and what is not quantized."""

    allocation: Literal["uniform", "mixed"] | None = None
    weight_bits: Bits
    activation_bits: Annotated[tuple[ActivationBits, ...], Field(min_length=1)]
    float_input_macs_percent: Percent


class DataMetrics(Group):
    """The labelled test images; without them, name is null."""

    name: str | None
    test_images: Count | None = None
    class_order: str | None = None
    order_assumed: bool | None = None
    fingerprint: str | None = None


class SyntheticMetrics(Group):
    """The synthetic images."""

    num_images: Count
    one_hot_images: Count
    one_hot_recognized: Percent | None
    gate: Percent


class Metrics(Record, Group):
    """``metrics.json``."""

    FORMAT: ClassVar[str] = "dynadfq-metrics/2"
    STAGE: ClassVar[str] = "evaluate"

    method: str | None
    teacher: NetworkMetrics
    fixed: ComparedMetrics
    student: NetworkMetrics
    control: ControlMetrics
    static: ComparedMetrics | None = None  # of a student whose images choose their widths
    ceiling: ComparedMetrics | None = None
    quantization: QuantizationMetrics
    data: DataMetrics
    synthetic: SyntheticMetrics
    budget_curve: dict[str, Any] | None = None
    entropy_bits_spearman: Annotated[float, Field(ge=-1, le=1)] | None = None
