"""What is known of a network's inputs and classes before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from dynadfq.ops.preprocess import Interpolation

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000
CROP = 0.875  # the middle of ImageNet images that is looked at: 224 of 256 pixels

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Metadata:
    """Facts from one source; None is what it does not know.

    origin: the source in words, such as "torchvision's metadata".
    """

    origin: str
    input_shape: Shape | None = None
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    interpolation: Interpolation | None = None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class WeightsFile:
    """Published weights: what to fetch, in words with its address, and the file where their library
    looks first.
    """

    source: str
    place: str


def imagenet_names(num_classes: int | None) -> tuple[str, ...] | None:
    """ImageNet's class names in the order that all libraries share, where there are as many
    classes.
    """
    if num_classes != IMAGENET_CLASSES:
        return None
    from torchvision.models import get_model_weights

    return tuple(get_model_weights("resnet18").DEFAULT.meta["categories"])


def resize_for(side: int, crop: float = CROP) -> int:
    """Length of an image's shorter side, of which the middle ``side`` pixels are the share
    ``crop``.

    >>> resize_for(224), resize_for(299)
    (256, 342)
    """
    return ceil(side / crop)
