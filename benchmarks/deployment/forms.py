"""The forms of a student as functions of images, and the float network beside them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynadfq.export import Engine
from dynadfq.export.engines import Answer, runners
from dynadfq.export.int8_form import Int8Form, to_int8_form
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.quant.bits import uniform
from dynadfq.quant.model import Student

INTEGER_FORM, KERNELS, IN_ONNXRUNTIME, TRAINING = (
    "integer form",
    "integer kernels",
    "onnxruntime",
    "training form",
)


class Forms(NamedTuple):
    """The forms that are compared.

    student: forms by name, each giving logits and widths; the integer form first.
    timed: whatever is timed, by name.
    fast: on 8-bit kernels.
    missing: one line for each form that is not to be had here.
    """

    student: dict[str, Answer]
    timed: dict[str, Answer]
    fast: Int8Form
    missing: list[str]


def forms(student: Student, network: nn.Module, threads: int, compile: bool = True) -> Forms:
    """Return every form of a student that runs here; ``compile`` the kernels or not."""
    codes = to_integer_form(student)
    fast = to_int8_form(codes, compile)
    answers: dict[str, Answer] = {
        INTEGER_FORM: codes.run,
        TRAINING: partial(training_form, student),
    }
    timed: dict[str, Answer] = {"float": lambda images: (network(images),)}
    missing = []
    if fast.engine == "compiled kernels":
        compiled = torch.compile(network, dynamic=False)
        timed["float, compiled"] = lambda images: (compiled(images),)
    try:
        for runner in runners(student, network, codes, Engine.onnxruntime, threads):
            timed[runner.name] = runner.run
        answers[IN_ONNXRUNTIME] = timed["onnxruntime, integer form"]
    except ImportError as error:
        missing.append(f"{IN_ONNXRUNTIME}: {error}")
    timed["student, integer form"] = codes.run
    if fast.reason:
        missing.append(f"compiled integer kernels: {fast.reason}")
    if fast.engine != "integer form":
        answers[KERNELS] = timed["student, integer kernels"] = fast.run
        timed |= forced(codes, fast, len(student.sites))
    return Forms(answers, timed, fast, missing)


def forced(codes: IntegerForm, fast: Int8Form, sites: int) -> dict[str, Answer]:
    """Return the student on kernels with the lowest, and with the highest width everywhere."""
    if not codes.dynamic:
        return {}
    ends = (codes.widths[0], codes.widths[-1])
    return {
        f"student, integer kernels, {bits} bits everywhere": partial(
            fast.run, allocation=uniform(bits, sites)
        )
        for bits in ends
    }


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
