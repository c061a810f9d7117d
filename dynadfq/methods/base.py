"""What a method answers: recipes for its images and for what the student learns, which the shared loops carry out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dynadfq.synthesis.pixels import ImageRecipe
from dynadfq.teacher import Teacher
from dynadfq.training.recipe import StudentRecipe

__all__ = ["ImageRecipe", "Known", "StudentRecipe"]


class Known(NamedTuple):
    """What a method may look at while it composes its images."""

    teacher: Teacher
    similarity: Tensor  # (classes, classes)
    seed: int
