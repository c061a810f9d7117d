from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dynadfq.ptq.preparation import rounding
from dynadfq.quant.config import QuantizationConfig
from dynadfq.quant.model import Student
from dynadfq.runtime.config import choices
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


def test_the_names_are_those_of_the_parameter() -> None:
    names = choices(QuantizationConfig.model_fields["rounding"])
    parts = [rounding(QuantizationConfig(rounding=name)) for name in names]
    assert [name for name, preparations in zip(names, parts, strict=True) if not preparations] == [
        "nearest"
    ]
    assert len({repr(preparations) for preparations in parts}) == len(names)


def test_a_dynamic_student_is_rounded_once_for_all_widths(
    make_student: Callable[..., Student], teacher: Teacher, synthetic: SyntheticSet, images: Tensor
) -> None:
    student = make_student()
    logits = student(images)
    for preparation in rounding(QuantizationConfig(rounding="squant")):
        preparation(student, teacher, synthetic, 0, Scratch(None))
    rounded, used = student.run(images)
    assert not rounded.equal(logits)
    assert len(used.unique(dim=0)) > 5
    student.train()(images).square().mean().backward()
    for layer in student.layers:
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
