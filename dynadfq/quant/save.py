"""A student as files (docs/format.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from dynadfq.quant.artifact import FORMAT, describe_layers, to_tensors
from dynadfq.quant.model_card import model_card
from dynadfq.runtime.resume import atomic_write

if TYPE_CHECKING:
    from dynadfq.quant.model import Student

FACTS, TENSORS = "student.json", "model.safetensors"
MEND = "make it again (stage finetune), or restore it with `dvc checkout --force`"
NEEDED = {  # keys without which no student is built, and those that they must hold themselves
    "input_shape": (),
    "layers": (),
    "scheme": (
        "weight_bits",
        "activation_bits",
        "target_bits",
        "placement",
        "learned_ranges",
        "selector",
    ),
    "sites": (),
    "teacher": ("architecture", "input_shape", "mean", "num_classes", "std"),
}


def save_student(student: Student, folder: Path) -> None:
    """Write ``model.safetensors``, ``student.json`` and ``card.md``; the same student gives the
    same bytes.
    """
    tensors = safetensors.torch.save(to_tensors(student.network, student.scheme.activation_bits))
    sites = zip(student.site_names, student.cost.per_site.tolist(), strict=True)
    facts = {
        "format": FORMAT,
        "layers": describe_layers(student.network),
        "input_shape": list(student.cost.trace.input_shape),
        "provenance": student.provenance,
        "multiplier": student.multiplier,
        "scheme": asdict(student.scheme),
        "sha256": sha256(tensors).hexdigest(),
        "sites": [
            {"name": name, "macs": round(per_bit / student.scheme.weight_bits)}
            for name, per_bit in sites
        ],
        "teacher": student.description,
    }
    atomic_write(folder / TENSORS, tensors)
    atomic_write(folder / FACTS, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    atomic_write(folder / "card.md", model_card(student, len(tensors)).encode())


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``student.json`` says.

    Raises:
        FileNotFoundError: there is no student in this folder.
        ValueError: the file is damaged, lacks a key, or is of another format.
    """
    path = folder / FACTS
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; make a student first (stage finetune)")
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:  # no JSON, or not even text
        raise ValueError(f"{path} is damaged ({error}); {MEND}") from error
    if not isinstance(facts, dict):
        raise ValueError(
            f"{path} holds a {type(facts).__name__} where the facts of a student belong; {MEND}"
        )
    if facts.get("format") != FORMAT:
        raise ValueError(
            f"{folder} is in the format {facts.get('format', 'of an earlier version')}, not {FORMAT}; make it again "
            "(stage finetune)"
        )
    if missing := _missing(facts):
        raise ValueError(f"{path} lacks {', '.join(missing)}; {MEND}")
    return facts


def read_tensors(folder: Path, checksum: str | None) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``; without a checksum, as of a student of earlier days, it
    is not compared.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not the file that ``student.json`` describes, or damaged.
    """
    path = folder / TENSORS
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {MEND}")
    data = path.read_bytes()
    if checksum is not None and sha256(data).hexdigest() != checksum:
        raise ValueError(f"{path} is not the file that {FACTS} describes (sha256 differs); {MEND}")
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {MEND}") from error


def _missing(facts: Mapping[str, Any]) -> list[str]:
    """Needed keys that are not there, as ``scheme.weight_bits``."""
    missing = []
    for name, keys in NEEDED.items():
        part = facts.get(name)
        if part is None or (keys and not isinstance(part, dict)):
            missing.append(name)
        else:
            missing += [f"{name}.{key}" for key in keys if key not in part]
    return missing
