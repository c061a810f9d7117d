"""Quantization of each layer of a network: bit-widths, ranges, MACs, reasons for float inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dynadfq.graph.config import FLOAT_BITS
from dynadfq.graph.description import Layer, NetworkTrace
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize
from dynadfq.quant.insert import FIXED_SITES
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

Status = Literal["dynamic", "fixed", "skipped", "weights", "float"]
WHOLE = 0.999  # share of an input from which on it counts as quantized entirely


@dataclass(frozen=True)
class LayerReport:
    """One call of a layer.

    activation_bits: candidate widths of its input, or the only one; 32 is float32.
    range: (low, high) of each activation site that it reads; where the candidate widths have
        ranges of their own, of the lowest width first.
    status: "dynamic": the width of its input is chosen per image. "fixed": it is the same for all
        images. "skipped": its input stays float32, for a ``reason``. "weights": its weights
        alone are quantized, since all activations stay float32. "float": the network is not
        quantized.
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
    """Report every call with MACs in execution order, calls that stay in float last."""
    trace = student.cost.trace
    layers = [_layer(student, layer) for layer in trace.layers]
    return [*layers, *_float_calls(trace, "skipped", "it is no convolution or linear layer")]


def inspect_teacher(teacher: Teacher) -> tuple[NetworkTrace, list[LayerReport]]:
    """Return a float network's trace, and the same report of it."""
    network = normalize(teacher.module, teacher.example)
    trace = describe(network, teacher.input_shape)
    layers = [
        LayerReport(layer.name, layer.kind, layer.macs, FLOAT_BITS, (FLOAT_BITS,), (), "float", "")
        for layer in trace.layers
    ]
    return trace, [*layers, *_float_calls(trace, "float", "")]


def macs_percent(layers: list[LayerReport]) -> dict[str, float]:
    """Return the percent of all MACs by status, of the statuses that occur."""
    total = sum(layer.macs for layer in layers) or 1
    statuses = dict.fromkeys(layer.status for layer in layers)
    return {
        status: 100.0 * sum(layer.macs for layer in layers if layer.status == status) / total
        for status in statuses
    }


def _layer(student: Student, layer: Layer) -> LayerReport:
    """Report one call of a quantized layer."""
    read = [i for i, site in enumerate(student.site_names) if layer.fraction_from(site) > 0]
    status, widths, reason = _input(student, layer, read)
    return LayerReport(
        layer=layer.name,
        kind=layer.kind,
        macs=layer.macs,
        weight_bits=student.cost.bits_of(layer),
        activation_bits=widths,
        range=tuple(bounds for i in read for bounds in student.sites[i].ranges),
        status=status,
        reason=reason,
    )


def _input(student: Student, layer: Layer, read: list[int]) -> tuple[Status, tuple[int, ...], str]:
    """Return how a layer's input is quantized, its widths, and why its width is not chosen."""
    scheme = student.scheme
    if scheme.float_activations:
        return "weights", (FLOAT_BITS,), ""
    if not read:
        reason = f"its input is no activation's output (placement {scheme.placement})"
        if layer.input_site is None:
            reason = "it reads the network's input"
        return "skipped", (FLOAT_BITS,), reason
    reason = ""
    quantized = sum(layer.fraction_from(student.site_names[i]) for i in read)
    if quantized <= WHOLE:
        reason = f"{100 * (1 - quantized):.0f} % of its input stays float32"
    if not scheme.dynamic:
        return "fixed", tuple(sorted({student.sites[i].bits for i in read})), reason
    if any(i >= FIXED_SITES for i in read):
        return "dynamic", scheme.activation_bits, reason
    return "fixed", scheme.activation_bits[-1:], reason or "it runs before the selector"


def _float_calls(trace: NetworkTrace, status: Status, reason: str) -> Iterator[LayerReport]:
    """Report the calls with MACs that are not quantized."""
    bits = (FLOAT_BITS,)
    for call in trace.float_calls:
        yield LayerReport(
            call.name, call.operation, call.macs, FLOAT_BITS, bits, (), status, reason
        )
