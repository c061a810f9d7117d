"""The networks that are measured, with the settings of their synthetic images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dynadfq
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import load

# The usual statistics of CIFAR-100; pytorchcv's own weights were trained with others.
CIFAR100 = {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)}
CHECKPOINT = (
    "weights; published ones if left out, and CIFAR-100's are taken to have learned from pixels of "
    "mean .5071 .4865 .4409 and deviation .2673 .2564 .2762"
)


@dataclass(frozen=True)
class Network:
    """A network and how images are made of it.

    architecture: as ``teacher.architecture``.
    with_checkpoint: further arguments of ``load_teacher`` for weights that are not the published
        ones.
    class_weight: weight of the class loss, where images are made by ``dynadfq``.
    iterations: steps of Adam for each image.
    """

    architecture: str
    with_checkpoint: dict[str, Any]
    class_weight: float
    iterations: int

    def teacher(self, checkpoint: Path | None) -> dynadfq.Teacher:
        """Load the network, with published weights unless there is a checkpoint."""
        if checkpoint is None:
            return dynadfq.load_teacher(self.architecture, pretrained=True)
        return dynadfq.load_teacher(
            self.architecture, checkpoint, pretrained=False, **self.with_checkpoint
        )


NETWORKS = {
    "efficientnet-lite0": Network("efficientnet/lite0", {}, 10.0, 60),
    "resnet20-cifar100": Network("pytorchcv/resnet20_cifar100", CIFAR100, 1.0, 200),
}


def labelled(
    teacher: dynadfq.Teacher,
    root: Path,
    part: str,
    class_file: Path | None,
    count: int | None = None,
) -> LabelledSet:
    """Return the images of a folder ``val/<class>/`` or ``train/<class>/``, or some of them."""
    return load(
        "image-folder",
        root,
        train=part == "train",
        count=count,
        preprocessing=teacher.preprocessing,
        class_names=teacher.class_names,
        class_file=class_file,
    )
