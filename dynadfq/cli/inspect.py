"""``dynadfq inspect``: layers of a model, and the cost of the whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dynadfq.cli.models import Model, Trust, description, load
from dynadfq.cli.output import AsJson, Cell, print_json, print_table

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
KNOWN = ("architecture", "input_shape", "num_classes", "source", "float_top1")
PREPROCESSING = ("mean", "std", "resize", "interpolation")


def run(model: Model, trust: Trust = None, as_json: AsJson = False) -> None:
    """Show the layers of a student or a teacher.

    For each layer: MACs, bit-widths, the range of its input, and whether its activation bit-width
    is fixed or dynamic, or why the layer was skipped; or that its weights alone are quantized.
    """
    from dynadfq.quant.model import Student

    loaded = load(model, trust)
    layers, whole = _student(loaded) if isinstance(loaded, Student) else _teacher(loaded)
    facts = _facts(model, loaded) | whole
    origins = description(loaded).get("origins", {})
    if as_json:
        layers_as_dicts = [asdict(layer) for layer in layers]
        return print_json(facts | {"origins": origins, "layers": layers_as_dicts})
    print_table(HEAD, [_row(layer) for layer in layers])
    typer.echo()
    for name, value in facts.items():
        origin = f" ({origins[name]})" if name in origins else ""
        typer.echo(f"{name.replace('_', ' ')}: {_text(value)}{origin}")


def _facts(folder: Path, model: Student | Teacher) -> dict[str, Any]:
    known = description(model)
    preprocessing = {name: known[name] for name in PREPROCESSING if known.get(name) is not None}
    return {
        "model": str(folder),
        **{name: known[name] for name in KNOWN},
        **preprocessing,
        "bytes": (folder / "model.safetensors").stat().st_size,
    }


def _student(student: Student) -> tuple[list[LayerReport], dict[str, Any]]:
    from dynadfq.evaluation.layer_report import inspect_student, macs_percent

    layers = inspect_student(student)
    scheme = student.scheme
    return layers, {
        "scheme": scheme.scheme,
        **({"placement": scheme.placement} if scheme.sites == scheme.placement else {}),
        "target_bits": scheme.target_bits,
        **({"activations": "stay float32"} if scheme.float_activations else {}),
        "macs_percent": macs_percent(layers),
        "bit_flops_percent": student.cost_range(),
        "multiplier": student.multiplier,
        "selector_overhead_percent": student.selector_overhead_percent,
    }


def _teacher(teacher: Teacher) -> tuple[list[LayerReport], dict[str, Any]]:
    from torch import nn

    from dynadfq.evaluation.layer_report import inspect_teacher

    trace, layers = inspect_teacher(teacher)
    batch_norm = nn.modules.batchnorm._BatchNorm
    return layers, {
        "activations": len(trace.activations),
        "batch_norms": sum(isinstance(part, batch_norm) for part in teacher.module.modules()),
        "macs": trace.layer_macs,
    }


def _row(layer: LayerReport) -> tuple[Cell, ...]:
    return (
        layer.layer,
        layer.kind,
        layer.macs,
        layer.weight_bits,
        ", ".join(map(str, layer.activation_bits)),
        ", ".join(f"{low:.3g} … {high:.3g}" for low, high in layer.range),
        layer.status,
        layer.reason,
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part:.2f} %" for name, part in value.items())
    if isinstance(value, list):
        is_shape = all(isinstance(part, int) for part in value)
        return (" × " if is_shape else ", ").join(map(_text, value))
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "unknown" if value is None else str(value)
