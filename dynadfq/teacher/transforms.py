"""Changes of the float network before it is quantized, teacher to teacher: folding, equalization,
absorption (DFQ).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dynadfq.graph.equalize import absorb_high_biases, equalize
from dynadfq.graph.fold import Folded, fold
from dynadfq.teacher.teacher import Teacher


class FoldedTeacher(Teacher):
    """A teacher whose BatchNorms are part of its layers; it goes on by the name of the teacher it
    was made of.

    Args:
        source: the teacher, or an earlier form of the same folded one.
        folded: its network, and the distributions of its layers' outputs.
        relu6_as_relu: whether its ReLU6 became ReLU.
    """

    def __init__(self, source: Teacher, folded: Folded, relu6_as_relu: bool) -> None:
        super().__init__(
            folded.network,
            source.input_shape,
            source.num_classes,
            source.mean,
            source.std,
            source.class_names,
            source.architecture,
            source.source,
            source.float_top1,
            source.resize,
            source.interpolation,
        )
        self.folded, self.relu6_as_relu = folded, relu6_as_relu
        self._description = source.describe()

    def describe(self) -> dict[str, Any]:
        """What is known of the teacher it was made of."""
        return self._description

    def save(self, folder: str | Path) -> None:
        """Not written: folding is done again from the teacher.

        Raises:
            ValueError: always.
        """
        raise ValueError("a folded teacher is no file of its own; save the teacher it was made of")


def fold_batch_norms(teacher: Teacher, relu6_as_relu: bool = False) -> FoldedTeacher:
    """The teacher with BatchNorms folded into the layers before them, optionally with ReLU in place
    of ReLU6.
    """
    example = torch.zeros(1, *teacher.input_shape, device=teacher.device)
    return FoldedTeacher(teacher, fold(teacher.module, example, relu6_as_relu), relu6_as_relu)


def equalize_layers(teacher: Teacher) -> FoldedTeacher:
    """A folded teacher with its channel ranges balanced across layers.

    Raises:
        TypeError: the teacher is not folded.
    """
    source = _folded(teacher)
    return FoldedTeacher(source, equalize(source.folded), source.relu6_as_relu)


def absorb_biases(teacher: Teacher, padded: bool = False) -> FoldedTeacher:
    """A folded teacher with high biases moved into the next layer, also across zero padding if
    ``padded``.

    Raises:
        TypeError: the teacher is not folded.
    """
    source = _folded(teacher)
    return FoldedTeacher(source, absorb_high_biases(source.folded, padded), source.relu6_as_relu)


def _folded(teacher: Teacher) -> FoldedTeacher:
    if not isinstance(teacher, FoldedTeacher):
        raise TypeError("the teacher still has its BatchNorms; apply fold_batch_norms first")
    return teacher
