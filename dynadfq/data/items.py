"""Data sets of (image, label) items: torchvision's, or the user's own by import path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from dynadfq.data.sets import from_disk_or_download
from dynadfq.runtime.import_path import accepted, called

# Names that torchvision's sets give to what a network learns from, and to what it is measured on.
SPLITS = {True: ("train", "trainval", "train-standard"), False: ("test", "val", "valid")}
WANTED = "give PIL images, or uint8 of shape (C, H, W) with C = 1 or 3, or (H, W)"


class Items(Protocol):
    """Pairs of an image and a label, by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


def torchvision_items(kind: str, root: Path, train: bool) -> Items:
    """A data set of torchvision's by the name of its class, from disk or by download.

    Raises:
        FileNotFoundError: it is not there and cannot be downloaded.
        ValueError: it has no part to train or to evaluate on.
    """
    make = getattr(datasets, kind)
    part = accepted(make, root=str(root), train=train)
    splits = SPLITS[train] if accepted(make, split="") else ("",)

    def opened(split: str) -> Items:
        chosen = part | ({"split": split} if split else {})
        needs = f"its files, as torchvision.datasets.{kind} describes them, in {root}"
        found: Items = from_disk_or_download(
            kind, needs, lambda download: make(**chosen, **accepted(make, download=download))
        )
        return found

    for split in splits[:-1]:
        try:
            return opened(split)
        except ValueError:  # torchvision's word for a split that the set does not have
            continue
    return opened(splits[-1])


def own_items(path: str, root: Path, train: bool) -> Items:
    """What a callable of the user's returns; it is called with those of ``root`` and ``train`` that
    it takes.

    Raises:
        ImportError: there is no such callable.
        ValueError: it needs other arguments, or returns no data set that has a length and can be
            indexed.
    """
    items = called(path, "data.name", "a data set", root=root, train=train)
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise ValueError(
            f"data.name: {path} returned {type(items).__name__}; return a data set with len() and [index]"
        )
    if not len(items):
        raise ValueError(
            f"data.name: {path} returned a data set of no image to {'train' if train else 'evaluate'} on"
        )
    found: Items = items
    return found


def item(items: Items, index: int, name: str) -> tuple[Image.Image, int]:
    """One item as an image and its label.

    Raises:
        ValueError: says what the item is instead.
    """
    found = items[index]
    if not (isinstance(found, Sequence) and len(found) == 2):
        raise ValueError(
            f"data.name: item {index} of {name} is {_kind(found)}; give a pair (image, label)"
        )
    image, label = found
    one = np.asarray(label)
    number = one.item() if one.size == 1 else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(
            f"data.name: the label of item {index} of {name} is {_kind(label)}; give a whole number"
        )
    return picture(image, f"the image of item {index} of {name}"), number


def picture(image: object, what: str) -> Image.Image:
    """A PIL image of one, or of uint8 pixels."""
    if isinstance(image, Image.Image):
        return image
    pixels = image.numpy() if isinstance(image, Tensor) else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise ValueError(
            f"data.name: {what} is {_kind(image)}, not an image or uint8 pixels; {WANTED}"
        )
    if pixels.ndim == 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    elif pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    elif pixels.ndim != 2:
        raise ValueError(f"data.name: {what} is {_kind(image)}; {WANTED}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _kind(value: object) -> str:
    """A value as a message calls it: its type, of pixels also their shape."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"


def names_of(items: Items) -> tuple[str, ...] | None:
    """The names of the classes where the data set says them, as torchvision's do; else None."""
    names = getattr(items, "classes", None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


class InMemory:
    """Pixels that are in memory already, as items."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], int(self.labels[index])


def spread(total: int, count: int | None) -> Tensor:
    """``count`` places of ``total``, evenly spread; all of them when None or when there are no
    more.

    >>> spread(10, 4).tolist(), spread(2, 4).tolist()
    ([0, 2, 5, 7], [0, 1])
    """
    return (
        torch.arange(total)
        if count is None or count >= total
        else torch.arange(count) * total // count
    )
