"""A student as files (docs/format.md)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch

from dynadfq.checkpoint import atomic_write
from dynadfq.quant.artifact import FORMAT, describe_layers, to_tensors
from dynadfq.quant.card import model_card

if TYPE_CHECKING:
    from dynadfq.quant.model import Student


def save_student(student: Student, folder: Path) -> None:
    """Write ``model.safetensors``, ``student.json`` and ``card.md``; the same student gives the same bytes."""
    tensors = safetensors.torch.save(to_tensors(student.network, student.scheme.activation_bits))
    sites = zip(student.site_names, student.cost.per_site.tolist(), strict=True)
    facts = {
        "format": FORMAT,
        "layers": describe_layers(student.network),
        "input_shape": list(student.cost.trace.input_shape),
        "made": student.made,
        "price": student.price,
        "scheme": asdict(student.scheme),
        "sites": [{"name": name, "macs": round(per_bit / student.scheme.weight_bits)} for name, per_bit in sites],
        "teacher": student.description,
    }
    atomic_write(folder / "model.safetensors", tensors)
    atomic_write(folder / "student.json", (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    atomic_write(folder / "card.md", model_card(student, len(tensors)).encode())
