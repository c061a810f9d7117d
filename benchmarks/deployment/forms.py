"""The forms of a student as functions of images, and the float network beside them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynadfq.export import Engine
from dynadfq.export.conversion_report import Fact
from dynadfq.export.engines import Answer, runners
from dynadfq.export.integer_form import to_integer_form
from dynadfq.quant.model import Student

INTEGER_FORM, IN_ONNXRUNTIME, TRAINING = "integer form", "onnxruntime", "training form"


class Forms(NamedTuple):
    """The forms that are compared.

    student: forms by name, each giving logits and widths; the integer form first.
    timed: whatever is timed, by name.
    facts: how each layer is computed.
    missing: one line for each form that is not to be had here.
    """

    student: dict[str, Answer]
    timed: dict[str, Answer]
    facts: tuple[Fact, ...]
    missing: list[str]


def forms(student: Student, network: nn.Module, threads: int) -> Forms:
    """Return every form of a student that runs here."""
    codes = to_integer_form(student)
    answers: dict[str, Answer] = {
        INTEGER_FORM: codes.run,
        TRAINING: partial(training_form, student),
    }
    timed: dict[str, Answer] = {"float": lambda images: (network(images),)}
    missing = []
    try:
        for runner in runners(student, network, codes, Engine.onnxruntime, threads):
            timed[runner.name] = runner.run
        answers[IN_ONNXRUNTIME] = timed["onnxruntime, integer form"]
    except ImportError as error:
        missing.append(f"{IN_ONNXRUNTIME}: {error}")
    timed["student, integer form"] = codes.run
    return Forms(answers, timed, codes.facts, missing)


@torch.no_grad()
def training_form(student: Student, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and widths of the fake-quantized forward pass; widths are as in evaluation."""
    student.train()
    if student.selector is not None:
        student.selector.eval()
    try:
        return student.run(images)
    finally:
        student.eval()
