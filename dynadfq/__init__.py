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
    from dynadfq.api import (
        Evaluation,
        QuantizedModel,
        Student,
        SyntheticSet,
        Teacher,
        bit_flops,
        class_similarity,
        evaluate,
        export_onnx,
        export_program,
        export_qdq,
        finetune,
        load_student,
        load_teacher,
        quantize,
        quantize_model,
        synthesize,
        to_integer_form,
        write_card,
    )

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "QuantizedModel",
    "Student",
    "SyntheticSet",
    "Teacher",
    "bit_flops",
    "class_similarity",
    "evaluate",
    "export_onnx",
    "export_program",
    "export_qdq",
    "finetune",
    "load_student",
    "load_teacher",
    "quantize",
    "quantize_model",
    "synthesize",
    "to_integer_form",
    "write_card",
]


if not TYPE_CHECKING:  # a type checker sees the imports above, and no other names

    def __getattr__(name: str) -> Any:
        """Import ``dynadfq.api`` when a name of it is used first: the command line starts fast."""
        if name not in __all__:
            raise AttributeError(f"module 'dynadfq' has no attribute {name!r}")
        return getattr(import_module("dynadfq.api"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
