"""Data-free quantization with a bit-width for every image.

    teacher = dynadfq.load_teacher("pytorchcv/resnet20_cifar10", checkpoint="resnet20.pth")
    images = dynadfq.synthesize(teacher, num_images=5120)
    student = dynadfq.quantize(teacher, weight_bits=4, activation_bits=(3, 4, 5), target_bits=4)
    dynadfq.finetune(student, teacher, images)

Legend of shapes, used throughout: B images in a batch, C channels, H × W pixels, S activation sites, M candidate
widths; classes are spelled out.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynadfq.api import bit_flops, finetune, quantize, synthesize
    from dynadfq.deploy.codes import to_codes
    from dynadfq.deploy.fast_form import fast_form
    from dynadfq.deploy.onnx_export import export_onnx
    from dynadfq.deploy.program import export_program
    from dynadfq.evaluation import Evaluation, evaluate
    from dynadfq.quant.build import load_student
    from dynadfq.quant.model import Student
    from dynadfq.similarity import class_similarity
    from dynadfq.synthesis.dataset import SyntheticSet
    from dynadfq.teacher import Teacher, load_teacher

__version__ = "0.1.0"

_HOME = {
    "Evaluation": "evaluation", "Student": "quant.model", "SyntheticSet": "synthesis.dataset", "Teacher": "teacher",
    "bit_flops": "api", "export_onnx": "deploy.onnx_export", "export_program": "deploy.program",
    "to_codes": "deploy.codes", "fast_form": "deploy.fast_form", "class_similarity": "similarity",
    "evaluate": "evaluation", "finetune": "api",
    "load_student": "quant.build", "load_teacher": "teacher", "quantize": "api", "synthesize": "api",
}  # fmt: skip

__all__ = [
    "Evaluation", "Student", "SyntheticSet", "Teacher", "bit_flops", "class_similarity", "evaluate", "export_onnx",
    "export_program", "fast_form", "finetune", "load_student", "load_teacher", "quantize", "synthesize", "to_codes",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the library starts fast, and a stage depends on what it uses."""
    if name not in _HOME:
        raise AttributeError(f"module 'dynadfq' has no attribute {name!r}")
    return getattr(import_module(f"dynadfq.{_HOME[name]}"), name)
