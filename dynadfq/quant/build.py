"""Students, built from a teacher or loaded from a folder."""

from __future__ import annotations

from collections.abc import Collection
from math import isclose
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynadfq.graph.fold import fold
from dynadfq.ops.unwrap import unwrapped
from dynadfq.quant.artifact import FACTS, TENSORS, StudentRecord, read_facts, read_tensors
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.packing import load_tensors
from dynadfq.runtime.described_file import reading
from dynadfq.runtime.import_path import require_trusted
from dynadfq.runtime.seeding import global_stream
from dynadfq.teacher.facts import TeacherFacts
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import FoldedTeacher
from dynadfq.zoo.architectures import build

NOT_OF_NETWORK = "does not fit the architecture; load it with the one that it was made from"


def build_student(teacher: Teacher, scheme: Scheme, seed: int = 0) -> Student:
    """Return a student with the teacher's weights; its ranges are not calibrated yet.

    Args:
        teacher: the float network. Whether it is folded becomes part of the student's scheme.
        scheme: bit-widths, sites and selector.
        seed: initializes the selector.
    """
    if isinstance(teacher, FoldedTeacher):
        scheme = scheme.model_copy(update={"folded": True, "relu6_as_relu": teacher.relu6_as_relu})
    with global_stream(seed, "student", "weights"):
        student = Student(teacher.module, teacher.input_shape, scheme, teacher.describe())
    return student.to(teacher.device)


def load_student(
    folder: str | Path, module: nn.Module | None = None, trust: Collection[str] = ()
) -> Student:
    """Load what ``Student.save`` wrote.

    Args:
        folder: the student's folder.
        module: the float architecture, needed if no zoo has it.
        trust: import paths that the folder may name as its architecture, such as
            ``my_pkg.models:build``; others are not imported.

    Raises:
        FileNotFoundError: there is no student in this folder.
        ValueError: a file is damaged or not the one that was saved, or no zoo has the architecture
            and none was given.
    """
    folder = Path(folder)
    path = folder / FACTS
    facts = read_facts(folder)
    if module is None:
        _require_buildable(path, facts.teacher, trust)
    tensors = read_tensors(folder, facts)
    with reading(path, facts.STAGE):
        student = _of_facts(facts, module)
    with reading(folder / TENSORS, facts.STAGE):
        load_tensors(student.network, tensors, facts.scheme.activation_bits)
    return student


def _require_buildable(path: Path, teacher: TeacherFacts, trust: Collection[str]) -> None:
    """Check that the float network can be built, and that the user trusts its code."""
    if teacher.architecture is None:
        raise ValueError(
            f"{path.parent} holds a network that is in no zoo and has no import path; "
            "pass its float architecture: load_student(path, module=…)"
        )
    require_trusted(teacher.architecture, trust, path)


def _of_facts(facts: StudentRecord, module: nn.Module | None) -> Student:
    """Return the student that a record describes, with any weights.

    Raises:
        ValueError: the network is not the one that the record describes.
    """
    teacher = facts.teacher
    if module is None:
        module = build(str(teacher.architecture), teacher.input_shape[0], teacher.num_classes)
    module = unwrapped(module)
    if facts.scheme.folded:
        device = next(module.parameters()).device
        example = torch.zeros(1, *teacher.input_shape, device=device)
        module = fold(module, example, facts.scheme.relu6_as_relu).network
    description = teacher.model_dump(mode="json")
    student = Student(module, teacher.input_shape, facts.scheme, description)
    student.provenance = facts.provenance
    if student.selector is not None:
        student.multiplier = facts.multiplier
    _require_same(facts.model_dump(mode="json"), student.describe())
    return student


def _require_same(said: dict[str, Any], found: dict[str, Any]) -> None:
    """Check that what a record says of layers, sites and cost is true of the network."""
    if said["layers"] != found["layers"]:
        names = sorted({**said["layers"], **found["layers"]})
        wrong = next(n for n in names if said["layers"].get(n) != found["layers"].get(n))
        raise ValueError(f"layers.{wrong} {NOT_OF_NETWORK}")
    if said["sites"] != found["sites"]:
        raise ValueError(f"sites {NOT_OF_NETWORK}")
    numbers = {"multiplier": (said["multiplier"], found["multiplier"])}
    numbers |= {f"cost.{key}": (said["cost"][key], value) for key, value in found["cost"].items()}
    for name, (value, true) in numbers.items():
        if not isclose(value, true, rel_tol=1e-6):
            raise ValueError(f"{name} is {value:g}, and the network's is {true:g}")
