"""What became of each layer of a network: widths, ranges, MACs, and why a layer reads floats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from dynadfq.graph.network import Layer, NetworkTrace, describe
from dynadfq.graph.normalize import normalize
from dynadfq.quant.insert import FIXED_SITES
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

Status = Literal["dynamic", "fixed", "skipped", "float"]
FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerReport:
    """One call of a layer.

    activation_bits: candidate widths of its input, or the only one; 32 is float32.
    range: (low, high) of each activation site that it reads.
    status: "dynamic": images choose the width of its input. "fixed": all have the same. "skipped":
        its input stays float32, for a ``reason``. "float": the network is not quantized.
    """

    layer: str
    kind: str
    macs: int
    weight_bits: int
    activation_bits: tuple[int, ...]
    range: tuple[tuple[float, float], ...]
    status: Status
    reason: str


def inspect_student(student: Student) -> list[LayerReport]:
    """Every call with MACs, in execution order; calls that are no quantizable layer come last."""
    trace = student.cost.trace
    return [*(_layer(student, layer) for layer in trace.layers), *_float_calls(trace, "skipped")]


def inspect_teacher(teacher: Teacher) -> tuple[NetworkTrace, list[LayerReport]]:
    """The same of a float network, and its trace."""
    network = normalize(teacher.module, torch.zeros(1, *teacher.input_shape, device=teacher.device))
    trace = describe(network, teacher.input_shape)
    layers = [
        LayerReport(layer.name, layer.kind, layer.macs, FLOAT_BITS, (FLOAT_BITS,), (), "float", "")
        for layer in trace.layers
    ]
    return trace, [*layers, *_float_calls(trace, "float")]


def macs_percent(layers: list[LayerReport]) -> dict[str, float]:
    """Percent of the MACs by status; 0 for a status that no layer has is left out."""
    total = sum(layer.macs for layer in layers) or 1
    statuses = dict.fromkeys(layer.status for layer in layers)
    return {
        status: 100.0 * sum(layer.macs for layer in layers if layer.status == status) / total
        for status in statuses
    }


def _layer(student: Student, layer: Layer) -> LayerReport:
    read = [i for i, site in enumerate(student.site_names) if layer.fraction_from(site) > 0]
    ranges = tuple((student.sites[i].low.item(), student.sites[i].high.item()) for i in read)
    status, widths, reason = _input(student, layer, read)
    bits = student.cost.weight_bits
    return LayerReport(layer.name, layer.kind, layer.macs, bits, widths, ranges, status, reason)


def _input(student: Student, layer: Layer, read: list[int]) -> tuple[Status, tuple[int, ...], str]:
    """How a layer's input is quantized: status, widths, and the reason where it is not chosen."""
    candidates, scheme = student.scheme.activation_bits, student.scheme
    quantized = sum(layer.fraction_from(student.site_names[i]) for i in read)
    partly = (
        ""
        if not read or quantized > 0.999
        else f"{100 * (1 - quantized):.0f} % of its input stays float32"
    )
    if not read:
        if layer.input_site is None:
            return "skipped", (FLOAT_BITS,), "it reads the network's input"
        return (
            "skipped",
            (FLOAT_BITS,),
            f"its input is no activation's output (placement {scheme.placement})",
        )
    if scheme.dynamic and any(i >= FIXED_SITES for i in read):
        return "dynamic", candidates, partly
    if scheme.dynamic:
        return "fixed", candidates[-1:], partly or "it runs before the selector answers"
    return "fixed", candidates[-1:], partly


def _float_calls(trace: NetworkTrace, status: Status) -> Iterator[LayerReport]:
    reason = "it is no convolution or linear layer" if status == "skipped" else ""
    for call in trace.float_calls:
        yield LayerReport(
            call.name, call.operation, call.macs, FLOAT_BITS, (FLOAT_BITS,), (), status, reason
        )
