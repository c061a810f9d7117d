"""Data sets of (image, label) items: torchvision's, or a user's own by import path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from dynadfq.data.sets import from_disk_or_download
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.import_path import accepted, call_object

# What torchvision's data sets call their training and evaluation parts.
TRAINING = ("train", "trainval", "train-standard")
EVALUATION = ("test", "val", "valid")
WANTED = "give PIL images, or uint8 of shape (C, H, W) with C = 1 or 3, or (H, W)"


class Items(Protocol):
    """(image, label) pairs by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


def torchvision_items(kind: str, root: Path, train: bool) -> Items:
    """Open one of torchvision's data sets, from disk or by download.

    Args:
        kind: name of its class in ``torchvision.datasets``.
        root: folder of its files.
        train: training part instead of the evaluation part.

    Raises:
        FileNotFoundError: it is not on disk and cannot be downloaded.
        ValueError: it has no such part.
    """
    from torchvision import datasets

    make = getattr(datasets, kind)
    arguments = accepted(make, root=str(root), train=train)
    instructions = f"its files, as torchvision.datasets.{kind} describes them, in {root}"

    def opened(**split: str) -> Items:
        found: Items = from_disk_or_download(
            kind,
            instructions,
            lambda download: make(**arguments, **split, **accepted(make, download=download)),
        )
        return found

    if not accepted(make, split=""):
        return opened()
    *others, last = TRAINING if train else EVALUATION
    for split in others:
        try:
            return opened(split=split)
        except ValueError:  # torchvision's error for a split that the data set lacks
            continue
    return opened(split=last)


def own_items(path: str, root: Path, train: bool) -> Items:
    """Return the data set that a user's function or class makes.

    Args:
        path: import path of a callable; it is called with ``root`` and ``train`` if it takes them.
        root: folder of its files.
        train: training part instead of the evaluation part.

    Raises:
        ImportError: there is no such callable.
        ValueError: it needs other arguments, or returns no data set with a length and an index.
    """
    items = call_object(path, "name", "a data set", root=root, train=train)
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise InvalidArgument(
            "name",
            f"{path} returned {type(items).__name__}; return a data set with len() and [index]",
        )
    if not len(items):
        purpose = "train" if train else "evaluate"
        raise InvalidArgument("name", f"{path} returned a data set without images to {purpose} on")
    found: Items = items
    return found


def read_item(items: Items, index: int, name: str) -> tuple[Image.Image, int]:
    """Return one item as image and label; ``name`` of the data set is for the message.

    Raises:
        ValueError: the item is something else.
    """
    found = items[index]
    if not (isinstance(found, Sequence) and len(found) == 2):
        raise InvalidArgument(
            "name", f"item {index} of {name} is {_type_of(found)}; give a pair (image, label)"
        )
    image, label = found
    values = np.asarray(label)
    number = values.item() if values.size == 1 else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise InvalidArgument(
            "name", f"the label of item {index} of {name} is {_type_of(label)}; give an integer"
        )
    return _to_image(image, f"the image of item {index} of {name}"), number


def class_names_of(items: Items) -> tuple[str, ...] | None:
    """Return the class names in the data set's attribute ``classes``; None if there are none."""
    names = getattr(items, "classes", None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _to_image(image: object, what: str) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    pixels = image.numpy() if isinstance(image, Tensor) else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise InvalidArgument(
            "name", f"{what} is {_type_of(image)}, not an image or uint8 pixels; {WANTED}"
        )
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    elif pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    elif pixels.ndim != 2:
        raise InvalidArgument("name", f"{what} is {_type_of(image)}; {WANTED}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _type_of(value: object) -> str:
    """Type of a value for a message, with the shape of arrays."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"
