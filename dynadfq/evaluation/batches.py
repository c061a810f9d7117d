"""Batches of labelled images as loaders yield them, checked and in one form."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dynadfq.ops.image_batch import look_like_plain_pixels, require_batch, require_normalized
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.errors import InvalidArgument

# (B, C, H, W) normalized float32 images, with (B,) int64 labels where there are any
LabelledBatch = tuple[Tensor, Tensor | None]


def checked_batches(
    batches: Iterable[object], preprocessing: Preprocessing, num_classes: int
) -> Iterator[LabelledBatch]:
    """Yield a loader's batches in one form: float32 images and (B,) int64 labels, or None.

    Args:
        batches: pairs of images and labels. Labels are class numbers of torch, NumPy or a list,
            of shape (B,) or (B, 1), or None in all batches.
        preprocessing: of the network that reads the images.
        num_classes: of the network.

    Labelled images that look as if they were not normalized are warned of.

    Raises:
        InvalidArgument: ``batches`` is no iterable, there is no batch, or one is something else; it
            is numbered from 0.
    """
    if not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__"):
        raise InvalidArgument(
            "batches",
            "must be pairs (images, labels), as a DataLoader yields them; got an object of type "
            f"{type(batches).__name__}",
        )
    labelled: bool | None = None
    for number, batch in enumerate(batches):
        try:
            images, labels = _checked(batch, preprocessing, num_classes)
        except InvalidArgument as error:
            raise InvalidArgument("batches", f"batch {number}: {error}") from error
        if labelled not in (None, labels is not None):
            raise InvalidArgument(
                "batches", f"batch {number}: labels: some batches have labels and others have none"
            )
        labelled = labels is not None
        if number == 0 and labels is not None and look_like_plain_pixels(images, preprocessing):
            warnings.warn(
                "batches: all values of the first images are in 0 … 1; they have to be normalized: "
                "subtract mean and divide by std, as the model's preprocessing does",
                stacklevel=2,
            )
        yield images, labels
    if labelled is None:
        raise InvalidArgument(
            "batches", "there are none; a generator can be read only once: give a list or a loader"
        )


def _checked(batch: object, preprocessing: Preprocessing, num_classes: int) -> LabelledBatch:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        count = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise InvalidArgument(
            "images", f"give pairs (images, labels), not a {type(batch).__name__}{count}"
        )
    images, labels = batch
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if isinstance(images, Tensor) and images.is_floating_point():
        images = images.float()
    require_batch(images, preprocessing.input_shape)
    if not len(images):
        raise InvalidArgument("images", "there are none in the batch; leave it out")
    require_normalized(images, preprocessing)
    return images, None if labels is None else class_numbers(labels, len(images), num_classes)


def class_numbers(labels: Tensor | Sequence[object], count: int, num_classes: int) -> Tensor:
    """Return labels of any kind as (B,) int64.

    Args:
        labels: class numbers of torch, NumPy or a list, of shape (B,) or (B, 1).
        count: B.
        num_classes: of the network; labels are below it.

    Raises:
        InvalidArgument: they are something else.
    """
    try:
        found = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    except (TypeError, ValueError):
        raise InvalidArgument(
            "labels", f"give class numbers, not a {type(labels).__name__} of something else"
        ) from None
    if found.shape == (count, 1):
        found = found[:, 0]
    if found.shape != (count,):
        raise InvalidArgument(
            "labels",
            f"of shape {tuple(found.shape)} for {count} images; give one class number per image",
        )
    if found.is_floating_point() or found.dtype == torch.bool:
        dtype = str(found.dtype).removeprefix("torch.")
        raise InvalidArgument("labels", f"{dtype}; give class numbers as integers")
    found = found.long().cpu()
    outside = found[(found < 0) | (found >= num_classes)]
    if len(outside):
        raise InvalidArgument(
            "labels",
            f"{int(outside[0])} is outside the network's {num_classes} classes, "
            f"0 … {num_classes - 1}",
        )
    return found
