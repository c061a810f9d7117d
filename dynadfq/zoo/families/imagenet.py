"""Classes and preprocessing of ImageNet that several libraries share."""

from __future__ import annotations

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CLASSES = 1000


def class_names(num_classes: int | None) -> tuple[str, ...] | None:
    """Return ImageNet's class names, in the order of all libraries; None for other counts."""
    if num_classes != CLASSES:
        return None
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
