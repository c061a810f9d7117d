"""Labelled images by the name of their data set, whatever form it has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dynadfq.data.classes import ClassOrder, class_order, read_classes
from dynadfq.data.decoded import decoded_files
from dynadfq.data.folder import folder_names, image_folder
from dynadfq.data.items import InMemory, Items, item, names_of, own_items, spread, torchvision_items
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.sets import CARDS, DataCard
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.spill import temporary_tensor
from dynadfq.zoo.metadata import Metadata

IMAGE_FOLDER = "image-folder"
TORCHVISION = "torchvision/"


def card(name: str | None) -> DataCard | None:
    """What is known of a data set without opening it; None where that is nothing."""
    return CARDS.get(name or "")


def class_names(name: str, root: str | Path = "data") -> tuple[str, ...] | None:
    """The names of a data set's classes, in the order of its labels; None where it does not say
    them.

    Raises:
        FileNotFoundError: its files are missing.
        ImportError, ValueError: an import path names no data set.
    """
    if name in CARDS:
        return CARDS[name].class_names
    if name == IMAGE_FOLDER:
        return folder_names(Path(root))
    return names_of(_items(name, Path(root), train=True))


def data_metadata(name: str | None, folder: Path | None) -> Metadata | None:
    """Classes, size and statistics of a known data set; of any other its classes alone, read from
    its ``folder``.

    ``folder`` is None where the network was trained elsewhere: a folder of images may hold a part
    of its classes.
    """
    known = card(name)
    if known is not None:
        shape = (known.channels, known.size, known.size)
        names = known.class_names
        return Metadata(
            f"data set {name}", shape, len(names), known.mean, known.std, class_names=names
        )
    if name is None or folder is None:
        return None
    found = class_names(name, folder)
    return Metadata(
        f"data set {name}", num_classes=len(found) if found else None, class_names=found
    )


def load(
    name: str,
    root: str | Path = "data",
    train: bool = False,
    preprocessing: Preprocessing | None = None,
    *,
    image_size: int | None = None,
    count: int | None = None,
    class_names: Sequence[str] | None = None,
    class_file: Path | None = None,
) -> LabelledSet:
    """Open a data set: a known one, ``image-folder``, ``torchvision/<Class>``, or by import path.

    Args:
        name: what `data.name` may be, null excepted.
        root: folder of its files.
        train: the part to train on, not the one to evaluate on.
        preprocessing: how its images become what the network reads; of a known set, None leaves
            them as they are.
        image_size: instead of ``preprocessing``, the side of a known set's images in pixels.
        count: images, evenly spread over the set, and no others are decoded; None is all of them.
        class_names: the network's, with which the data set's are matched; None where its own
            classes are meant.
        class_file: which class of the network each folder is, see ``read_classes``.

    Raises:
        ValueError: the name is unknown, an item is no labelled image, or its classes are not the
            network's.
        FileNotFoundError: files are missing and cannot be downloaded; the message says where to put
            them.
        ImportError: an import path leads nowhere.
    """
    folder, total = Path(root), None if class_names is None else len(class_names)
    if name in CARDS:
        pixels, labels = CARDS[name].read(folder, train)
        chosen = spread(len(labels), count)
        pixels, labels = pixels[chosen], labels[chosen]
        wanted = preprocessing or _as_they_are(CARDS[name], image_size)
        if wanted.input_shape == pixels.shape[1:] and wanted.resize is None:
            return LabelledSet(wanted, pixels, _within(labels, total, name))
        return _decoded(InMemory(pixels, labels), torch.arange(len(labels)), wanted, total, name)
    if preprocessing is None:
        raise ValueError(
            f"preprocessing: the images of {name} have no size of their own; give what the network reads"
        )
    if name == IMAGE_FOLDER:
        return _folder(folder, train, preprocessing, count, class_names, class_file)
    items = _items(name, folder, train)
    found = _decoded(items, spread(len(items), count), preprocessing, total, name)
    return _by_name(found, names_of(items), class_names)


def _as_they_are(known: DataCard, size: int | None) -> Preprocessing:
    side = size or known.size
    return Preprocessing((known.channels, side, side), known.mean, known.std)


def _items(name: str, root: Path, train: bool) -> Items:
    if name.startswith(TORCHVISION):
        return torchvision_items(name.removeprefix(TORCHVISION), root, train)
    return own_items(name, root, train)


def _folder(
    root: Path, train: bool, preprocessing: Preprocessing, count: int | None, names: Sequence[str] | None,
    class_file: Path | None,
) -> LabelledSet:  # fmt: skip
    files = image_folder(root, train)
    given = read_classes(class_file) if class_file else None
    order = (
        class_order(files.names, names, given)
        if names is not None
        else ClassOrder.own(len(files.names))
    )
    chosen = spread(len(files.paths), count)
    labels = torch.tensor(order.numbers)[torch.tensor(files.numbers)[chosen]]
    pixels = decoded_files([files.paths[i] for i in chosen.tolist()], preprocessing, _scratch())
    return LabelledSet(preprocessing, pixels, labels, order)


def _decoded(
    items: Items, chosen: Tensor, preprocessing: Preprocessing, total: int | None, name: str
) -> LabelledSet:
    """The chosen items; each is read once, its label beside its pixels."""
    labels: list[int] = []
    shape = (len(chosen), *preprocessing.input_shape)
    pixels = temporary_tensor(shape, torch.uint8, folder=_scratch())
    for place, index in enumerate(chosen.tolist()):
        image, label = item(items, index, name)
        labels.append(label)
        _within(torch.tensor([label]), total, name)
        pixels[place] = preprocessing.pixels(image)
    return LabelledSet(preprocessing, pixels, torch.tensor(labels))


def _by_name(
    found: LabelledSet, own: Sequence[str] | None, theirs: Sequence[str] | None
) -> LabelledSet:
    """Labels as the network numbers the classes that both know by name; else as the data set
    numbers them.
    """
    if own is None or theirs is None or not set(own) <= set(theirs):
        return found
    order = class_order(own, theirs)
    return LabelledSet(
        found.preprocessing, found.pixels, torch.tensor(order.numbers)[found.labels], order
    )


def _within(labels: Tensor, total: int | None, name: str) -> Tensor:
    """The labels, all of which the network must have; ``total`` None is any number of classes."""
    outside = labels[(labels < 0) | (labels >= (labels.max() + 1 if total is None else total))]
    if len(outside):
        allowed = (
            "negative"
            if total is None
            else f"outside the teacher's {total} classes, 0 … {total - 1}"
        )
        raise ValueError(
            f"data.name: a label of {name} is {int(outside[0])}, {allowed}; give labels of its classes"
        )
    return labels


def _scratch() -> Path:
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"
