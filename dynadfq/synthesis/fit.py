"""Whether a set of images fits a network."""

from __future__ import annotations

from collections.abc import Sequence

from dynadfq.ops.image_batch import require_batch
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.dataset import SyntheticSet


def require_fitting(images: SyntheticSet, input_shape: Sequence[int], num_classes: int) -> None:
    """Check one image of a set: its shape, its number type and its label's classes.

    Args:
        images: synthetic images, or any set with ``batches``.
        input_shape: (C, H, W) that the network reads.
        num_classes: of the network.

    Raises:
        InvalidArgument: the set is something else, empty, or of another network.
    """
    if not hasattr(images, "batches"):
        raise InvalidArgument(
            "images",
            f"must be a set as dynadfq.synthesize returns it; got a {type(images).__name__}",
        )
    first = next(iter(images.batches(1)), None)
    if first is None:
        raise InvalidArgument("images", "the set is empty; make some first")
    require_batch(first.images, input_shape)
    classes = first.soft_labels.shape[-1]
    if classes != num_classes:
        raise InvalidArgument(
            "images", f"made for {classes} classes, and the network has {num_classes}"
        )
