"""GDFQ: images from a class-conditional generator, which continues to train during fine-tuning.

Xu et al., "Generative Low-bitwidth Data Free Quantization", ECCV 2020, arXiv 2003.03603. It differs
from the released code in three ways: activation ranges come from the generator's images when its
first training is over, not from its first epochs; Adam starts afresh for the online generator; and
the KL is averaged over the batch (`kd_reduction`).
"""

from __future__ import annotations

from typing import ClassVar

from dynadfq.methods.base import Method, Presets
from dynadfq.methods.images import ClassGeneratorImages, GeneratorImages
from dynadfq.methods.student import GeneratorStudent


class Images(ClassGeneratorImages):
    """GDFQ's generator, which first trains for `synthesis.iterations` steps."""

    method: ClassVar[str] = "gdfq"


class Student(GeneratorStudent):
    """The loss of GDFQ's student, on images that change as the generator learns."""

    images: ClassVar[type[GeneratorImages]] = Images


class GDFQ(Method):
    """GDFQ: `images` changes the generator, `student` the fine-tuning."""

    title: ClassVar[str] = "GDFQ"
    trains_generator: ClassVar[bool] = True
    presets: ClassVar[Presets] = {
        "small": {"images": {"generator_batch_size": 64}},
        "imagenet": {"images": {"generator_batch_size": 16}},
    }

    images: Images = Images()
    student: Student = Student()
