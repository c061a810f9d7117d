"""Students from teachers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from dynadfq.models.fold import fold
from dynadfq.models.zoo import build
from dynadfq.quant.artifact import FORMAT, load_tensors
from dynadfq.quant.insert import Scheme
from dynadfq.quant.model import Student, scheme_from_json
from dynadfq.seeding import global_stream
from dynadfq.teacher import Teacher
from dynadfq.transforms import FoldedTeacher


def build_student(teacher: Teacher, scheme: Scheme, seed: int = 0) -> Student:
    """A student with the teacher's weights; the seed initialises the selector. Its ranges are not calibrated yet.

    A folded teacher's form becomes part of the scheme, so that the student can be built again.
    """
    if isinstance(teacher, FoldedTeacher):
        scheme = replace(scheme, folded=True, relu6_as_relu=teacher.relu6_as_relu)
    with global_stream(seed, "student", "weights"):
        return Student(teacher.module, teacher.input_shape, scheme, teacher.describe()).to(teacher.device)


def load_student(folder: str | Path, module: nn.Module | None = None) -> Student:
    """Load what ``Student.save`` wrote; ``module`` is the float architecture, needed where it is in no zoo.

    Raises:
        FileNotFoundError: there is no student in this folder.
        ValueError: the architecture is in no zoo and none was given.
    """
    folder = Path(folder)
    if not (folder / "student.json").exists():
        raise FileNotFoundError(f"{folder / 'student.json'} does not exist; make a student first (stage finetune)")
    card = json.loads((folder / "student.json").read_text())
    if card.get("format") != FORMAT:
        raise ValueError(
            f"{folder} is in the format {card.get('format', 'of an earlier version')}, not {FORMAT}; make it again "
            "(stage finetune)"
        )
    teacher, shape = card["teacher"], tuple(card["input_shape"])
    if module is None:
        if teacher["architecture"] is None:
            raise ValueError(
                f"{folder} holds a network that is in no zoo and has no import path; pass its float architecture: "
                "load_student(path, module=…)"
            )
        module = build(teacher["architecture"], shape[0], teacher["num_classes"])
    scheme = scheme_from_json(card["scheme"])
    if scheme.folded:
        module = fold(module, torch.zeros(1, *shape), scheme.relu6_as_relu).network
    student = Student(module.eval(), shape, scheme, teacher)
    load_tensors(student.network, safetensors.torch.load_file(folder / "model.safetensors"))
    student.made = card.get("made", {})
    if card.get("price"):
        student.price = card["price"]
    return student
