"""Data-free quantization with a bit-width for every image.

    teacher = dynadfq.load_teacher("pytorchcv/resnet20_cifar10", checkpoint="resnet20.pth")
    images = dynadfq.synthesize(teacher, num_images=5120)
    student = dynadfq.quantize(teacher, weight_bits=4, activation_bits=(3, 4, 5), target_bits=4)
    dynadfq.finetune(student, teacher, images)

Legend of shapes, used throughout: B images in a batch, C channels, H × W pixels, S activation
sites, M candidate widths; classes are spelled out.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynadfq.api import bit_flops, finetune, quantize, synthesize
    from dynadfq.evaluation.evaluate import Evaluation, evaluate
    from dynadfq.export.int8_form import to_int8_form
    from dynadfq.export.integer_form import to_integer_form
    from dynadfq.export.onnx_export import export_onnx
    from dynadfq.export.program import export_program
    from dynadfq.quant.build import load_student
    from dynadfq.quant.model import Student
    from dynadfq.synthesis.dataset import SyntheticSet
    from dynadfq.teacher.loading import load_teacher
    from dynadfq.teacher.similarity import class_similarity
    from dynadfq.teacher.teacher import Teacher

__version__ = "0.1.0"

_HOME = {
    "Evaluation": "evaluation.evaluate", "Student": "quant.model", "SyntheticSet": "synthesis.dataset", "Teacher": "teacher.teacher",
    "bit_flops": "api", "export_onnx": "export.onnx_export", "export_program": "export.program",
    "to_integer_form": "export.integer_form", "to_int8_form": "export.int8_form", "class_similarity": "teacher.similarity",
    "evaluate": "evaluation.evaluate", "finetune": "api",
    "load_student": "quant.build", "load_teacher": "teacher.loading", "quantize": "api", "synthesize": "api",
}  # fmt: skip

__all__ = [
    "Evaluation",
    "Student",
    "SyntheticSet",
    "Teacher",
    "bit_flops",
    "class_similarity",
    "evaluate",
    "export_onnx",
    "export_program",
    "finetune",
    "load_student",
    "load_teacher",
    "quantize",
    "synthesize",
    "to_int8_form",
    "to_integer_form",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the library starts fast, and a stage depends on
    what it uses.
    """
    if name not in _HOME:
        raise AttributeError(f"module 'dynadfq' has no attribute {name!r}")
    return getattr(import_module(f"dynadfq.{_HOME[name]}"), name)
