"""``dynadfq inspect``: a table of layers, and what the whole costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dynadfq.cli.models import Model, description, load
from dynadfq.cli.output import AsJson, print_json, table

if TYPE_CHECKING:
    from dynadfq.evaluation.layer_report import LayerReport
    from dynadfq.quant.model import Student
    from dynadfq.teacher.teacher import Teacher

NAME = "inspect"
EXAMPLES = """\b
Examples:
  dynadfq inspect artifacts/student
  dynadfq inspect artifacts/teacher
  dynadfq inspect artifacts/student --json | jq '.layers[] | select(.status == "skipped")'"""
HEAD = ("layer", "kind", "MACs", "weight bits", "activation bits", "range", "status", "reason")


def run(model: Model, as_json: AsJson = False) -> None:
    """Show what became of each layer.

    For each: MACs, widths in bits, the range of its input, and whether that is fixed, dynamic, or
    skipped and why.
    """
    from dynadfq.quant.model import Student

    loaded = load(model)
    layers, whole = _student(loaded) if isinstance(loaded, Student) else _teacher(loaded)
    facts, origins = _facts(model, loaded) | whole, description(loaded).get("origins", {})
    if as_json:
        return print_json(
            facts | {"origins": origins, "layers": [asdict(layer) for layer in layers]}
        )
    typer.echo(table(HEAD, [_row(layer) for layer in layers]) + "\n")
    for name, value in facts.items():
        origin = f" ({origins[name]})" if name in origins else ""
        typer.echo(f"{name.replace('_', ' ')}: {_text(value)}{origin}")


def _facts(folder: Path, model: Student | Teacher) -> dict[str, Any]:
    known = description(model)
    return {
        "model": str(folder),
        **{
            key: known[key]
            for key in ("architecture", "input_shape", "num_classes", "source", "float_top1")
        },
        **{
            key: known[key]
            for key in ("mean", "std", "resize", "interpolation")
            if known.get(key) is not None
        },
        "bytes": (folder / "model.safetensors").stat().st_size,
    }


def _student(student: Student) -> tuple[list[LayerReport], dict[str, Any]]:
    from dynadfq.evaluation.layer_report import inspect_student, macs_percent

    layers, scheme = inspect_student(student), student.scheme
    return layers, {
        "placement": scheme.placement,
        "target_bits": scheme.target_bits,
        "macs_percent": macs_percent(layers),
        "bit_flops_percent": student.cost_range(),
        "multiplier": student.multiplier,
        "selector_overhead_percent": student.selector_overhead_percent,
    }


def _teacher(teacher: Teacher) -> tuple[list[LayerReport], dict[str, Any]]:
    from torch import nn

    from dynadfq.evaluation.layer_report import inspect_teacher

    trace, layers = inspect_teacher(teacher)
    norms = [
        layer
        for layer in teacher.module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    ]
    return layers, {
        "activations": len(trace.activations),
        "batch_norms": len(norms),
        "macs": trace.layer_macs,
    }


def _row(layer: LayerReport) -> tuple[str | int, ...]:
    bits = ", ".join(map(str, layer.activation_bits))
    ranges = ", ".join(f"{low:.3g} … {high:.3g}" for low, high in layer.range)
    return (
        layer.layer,
        layer.kind,
        layer.macs,
        layer.weight_bits,
        bits,
        ranges,
        layer.status,
        layer.reason,
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part:.2f} %" for name, part in value.items())
    if isinstance(value, list):
        whole = all(isinstance(part, int) for part in value)
        return " × ".join(map(str, value)) if whole else ", ".join(f"{part:.4g}" for part in value)
    if value is None:
        return "unknown"
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.4g}"
        if isinstance(value, float)
        else str(value)
    )
