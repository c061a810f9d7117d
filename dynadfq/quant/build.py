"""Students, built from a teacher or loaded from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynadfq.graph.fold import fold
from dynadfq.ops.unwrap import unwrapped
from dynadfq.quant.artifact import FACTS, REMEDY, read_facts, read_tensors
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.packing import load_tensors
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.seeding import global_stream
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import FoldedTeacher
from dynadfq.zoo.architectures import build


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


def load_student(folder: str | Path, module: nn.Module | None = None) -> Student:
    """Load what ``Student.save`` wrote.

    Args:
        folder: the student's folder.
        module: the float architecture, needed if no zoo has it.

    Raises:
        FileNotFoundError: there is no student in this folder.
        ValueError: a file is damaged or not the one that was saved, or no zoo has the architecture
            and none was given.
    """
    folder = Path(folder)
    facts = read_facts(folder)
    teacher = facts["teacher"]
    shape = tuple(facts["input_shape"])
    scheme = _scheme(folder, facts)
    tensors = read_tensors(folder, facts["sha256"])
    if module is None:
        module = _architecture(folder, teacher, shape[0])
    module = unwrapped(module)
    if scheme.folded:
        module = fold(module, torch.zeros(1, *shape), scheme.relu6_as_relu).network
    student = Student(module.eval(), shape, scheme, teacher)
    load_tensors(student.network, tensors)
    student.provenance = facts["provenance"]
    if student.selector is not None:
        student.multiplier = facts["multiplier"]
    return student


def _scheme(folder: Path, facts: dict[str, Any]) -> Scheme:
    try:
        return Scheme.checked(**facts["scheme"])
    except InvalidArgument as error:
        raise ValueError(f"{folder / FACTS}: scheme.{error}; {REMEDY}") from error


def _architecture(folder: Path, teacher: dict[str, Any], channels: int) -> nn.Module:
    """Build the float network from a zoo or an import path, with any weights."""
    if teacher["architecture"] is None:
        raise ValueError(
            f"{folder} holds a network that is in no zoo and has no import path; "
            "pass its float architecture: load_student(path, module=…)"
        )
    return build(teacher["architecture"], channels, teacher["num_classes"])
