"""Classes and preprocessing of ImageNet that several libraries share."""

from __future__ import annotations

from math import ceil

from torchvision.models import ResNet18_Weights

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CLASSES = 1000
CENTER_FRACTION = 0.875  # of an image's shorter side: 224 of 256 pixels


def class_names(num_classes: int | None) -> tuple[str, ...] | None:
    """Return ImageNet's class names, in the order of all libraries; None for other counts."""
    if num_classes != CLASSES:
        return None
    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def resize_for(side: int, fraction: float = CENTER_FRACTION) -> int:
    """Return the shorter side of an image whose center ``fraction`` is ``side`` pixels.

    >>> resize_for(224), resize_for(299)
    (256, 342)
    """
    return ceil(side / fraction)
