"""Transforms of the float network before quantization (DFQ): folding, equalization, absorption.

Nagel et al., ICCV 2019, arXiv 1906.04721. Each takes a teacher and returns another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynadfq.graph.equalize import absorb_high_biases, equalize
from dynadfq.graph.fold import Folded, fold
from dynadfq.teacher.teacher import Teacher


class FoldedTeacher(Teacher):
    """A teacher with folded BatchNorms, described as the teacher that it was made from.

    Args:
        source: that teacher, or another folded one of it.
        folded: the network, and the distributions of its layers' outputs.
        relu6_as_relu: whether its ReLU6 became ReLU.
    """

    def __init__(self, source: Teacher, folded: Folded, relu6_as_relu: bool) -> None:
        self.classifier_name = source.classifier_name
        super().__init__(folded.network, **source.arguments())
        self.folded = folded
        self.relu6_as_relu = relu6_as_relu
        self._description = source.describe()

    def _try(self) -> str | None:
        """Return the classifier's name: the network was tried before it was folded."""
        return self.classifier_name

    def describe(self) -> dict[str, Any]:
        """Return the description of the teacher that it was made from."""
        return self._description

    def save(self, folder: str | Path) -> None:
        """Raise an error: a folded teacher is made again from the saved teacher.

        Raises:
            ValueError: always.
        """
        raise ValueError("a folded teacher cannot be saved; save the teacher that it was made of")


def fold_batch_norms(teacher: Teacher, relu6_as_relu: bool = False) -> FoldedTeacher:
    """Fold BatchNorms into the layers before them.

    Args:
        teacher: stays unchanged.
        relu6_as_relu: replace ReLU6 by ReLU, which commutes with scaling.
    """
    folded = fold(teacher.module, teacher.example, relu6_as_relu)
    return FoldedTeacher(teacher, folded, relu6_as_relu)


def equalize_layers(teacher: Teacher) -> FoldedTeacher:
    """Balance the channel ranges of a folded teacher across layers (DFQ, Sec. 4.1).

    Raises:
        TypeError: the teacher is not folded.
    """
    source = _require_folded(teacher)
    return FoldedTeacher(source, equalize(source.folded), source.relu6_as_relu)


def absorb_biases(teacher: Teacher, padded: bool = False) -> FoldedTeacher:
    """Move high biases of a folded teacher into the next layers (DFQ, Sec. 4.1.3).

    Args:
        teacher: stays unchanged.
        padded: also across zero padding, where the result is approximate.

    Raises:
        TypeError: the teacher is not folded.
    """
    source = _require_folded(teacher)
    return FoldedTeacher(source, absorb_high_biases(source.folded, padded), source.relu6_as_relu)


def _require_folded(teacher: Teacher) -> FoldedTeacher:
    if not isinstance(teacher, FoldedTeacher):
        raise TypeError("the teacher still has its BatchNorms; apply fold_batch_norms first")
    return teacher
