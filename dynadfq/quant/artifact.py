"""A student's files (docs/format.md): facts and tensors, written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from dynadfq.quant.model_card import model_card
from dynadfq.runtime.resume import atomic_write

FORMAT = "dynadfq-codes/2"
FACTS = "student.json"
TENSORS = "model.safetensors"
CARD = "card.md"
REMEDY = "make it again (stage finetune), or restore it with `dvc checkout --force`"
SCHEME_KEYS = (
    "weight_bits",
    "activation_bits",
    "target_bits",
    "placement",
    "learned_ranges",
    "selector",
)
REQUIRED: dict[str, tuple[str, ...]] = {  # keys of student.json, and the keys within each
    "input_shape": (),
    "bytes": (),
    "cost": ("dynamic_sites", "float_input_macs", "highest", "lowest", "selector", "target"),
    "layers": (),
    "multiplier": (),
    "provenance": (),
    "scheme": SCHEME_KEYS,
    "sha256": (),
    "sites": (),
    "teacher": ("architecture", "input_shape", "mean", "num_classes", "std"),
}


def write_artifact(folder: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write ``model.safetensors``, ``student.json`` and ``card.md``.

    The same facts and tensors give the same bytes.
    """
    data = safetensors.torch.save(dict(tensors))
    checksum = sha256(data).hexdigest()
    facts = {**facts, "format": FORMAT, "sha256": checksum, "bytes": len(data)}
    atomic_write(folder / TENSORS, data)
    atomic_write(folder / FACTS, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    atomic_write(folder / CARD, model_card(facts).encode())


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the content of ``student.json``.

    Raises:
        FileNotFoundError: there is no student in this folder.
        ValueError: the file is damaged, lacks a key, or is of another format.
    """
    path = folder / FACTS
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; make a student first (stage finetune)")
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:  # JSON or text encoding
        raise ValueError(f"{path} is damaged ({error}); {REMEDY}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} holds a {type(facts).__name__}, not an object; {REMEDY}")
    if facts.get("format") != FORMAT:
        found = facts.get("format", "of an earlier version")
        raise ValueError(
            f"{folder} is in the format {found}, not {FORMAT}; make it again (stage finetune)"
        )
    if missing := _missing_keys(facts):
        raise ValueError(f"{path} lacks {', '.join(missing)}; {REMEDY}")
    return facts


def read_tensors(folder: Path, checksum: str) -> dict[str, Tensor]:
    """Return the tensors of ``model.safetensors``.

    Args:
        folder: a student's folder.
        checksum: sha256 of the file, from ``student.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not the file that ``student.json`` describes.
    """
    path = folder / TENSORS
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {REMEDY}")
    data = path.read_bytes()
    if sha256(data).hexdigest() != checksum:
        raise ValueError(
            f"{path} is not the file that {FACTS} describes (sha256 differs); {REMEDY}"
        )
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {REMEDY}") from error


def _missing_keys(facts: Mapping[str, Any]) -> list[str]:
    """Required keys that are missing, such as ``scheme.weight_bits``."""
    missing = []
    for name, keys in REQUIRED.items():
        part = facts.get(name)
        if part is None or (keys and not isinstance(part, dict)):
            missing.append(name)
        else:
            missing += [f"{name}.{key}" for key in keys if key not in part]
    return missing
