"""Labelled images by the name of their data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from dynadfq.data.class_file import read_classes
from dynadfq.data.classes import LABELS, ClassOrder, are_numbers, class_order
from dynadfq.data.config import IMAGE_FOLDER, TORCHVISION
from dynadfq.data.decoded import LabelledFiles
from dynadfq.data.items import Items, class_names_of, own_items, read_item, torchvision_items
from dynadfq.data.labelled import LabelledSet, evenly_spaced
from dynadfq.data.sets import CARDS
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.spill import temporary_tensor
from dynadfq.zoo.metadata import Metadata


def class_names(name: str, root: str | Path = "data") -> tuple[str, ...] | None:
    """Return a data set's class names in the order of its labels; None if it has no names.

    Raises:
        FileNotFoundError: its files are missing.
        ImportError, ValueError: an import path names no data set.
    """
    if name in CARDS:
        return CARDS[name].class_names
    if name == IMAGE_FOLDER:
        from dynadfq.data.folder import folder_names

        return folder_names(Path(root))
    return class_names_of(_items(name, Path(root), train=True))


def data_metadata(name: str | None, folder: Path | None) -> Metadata | None:
    """Return what a data set tells about a network that is trained on it.

    Args:
        name: of the data set; None has no metadata.
        folder: of its files, which the class names of other than known data sets are read from.
            None if the network was trained elsewhere: the folder may hold a part of its classes.
    """
    if name in CARDS:
        card = CARDS[name]
        return Metadata(
            origin=f"data set {name}",
            input_shape=(card.channels, card.size, card.size),
            num_classes=len(card.class_names),
            mean=card.mean,
            std=card.std,
            class_names=card.class_names,
        )
    if name is None or folder is None:
        return None
    names = class_names(name, folder)
    count = len(names) if names else None
    return Metadata(f"data set {name}", num_classes=count, class_names=names)


def load(
    name: str,
    root: str | Path = "data",
    train: bool = False,
    preprocessing: Preprocessing | None = None,
    *,
    count: int | None = None,
    class_names: Sequence[str] | None = None,
    class_file: Path | None = None,
    scratch: Path | None = None,
) -> LabelledSet:
    """Open a labelled data set and decode its images.

    Args:
        name, root, train, preprocessing, count, class_names, class_file: see ``open_labelled``.
        scratch: where decoded files of an ``image-folder`` are kept; None is ``.scratch``.

    Raises:
        ValueError, FileNotFoundError, ImportError: see ``open_labelled``.
    """
    found = open_labelled(
        name,
        root,
        train,
        preprocessing,
        count=count,
        class_names=class_names,
        class_file=class_file,
    )
    return found.decoded(scratch or _scratch()) if isinstance(found, LabelledFiles) else found


def open_labelled(
    name: str,
    root: str | Path = "data",
    train: bool = False,
    preprocessing: Preprocessing | None = None,
    *,
    count: int | None = None,
    class_names: Sequence[str] | None = None,
    class_file: Path | None = None,
) -> LabelledSet | LabelledFiles:
    """Open a labelled data set; the files of an ``image-folder`` are not decoded.

    Args:
        name: of a known data set, ``image-folder``, ``torchvision/<Class>``, or an import path.
        root: folder of its files.
        train: training part instead of the evaluation part.
        preprocessing: of the network; None keeps the size of a known data set.
        count: images, evenly spaced over the set; no others are decoded. None takes all.
        class_names: the network's, which the data set's are matched with; None keeps its own.
        class_file: the network's class of each class of the data set, see ``read_classes``.

    Raises:
        ValueError: the name is unknown, an item is no labelled image, or classes do not match.
        FileNotFoundError: files are missing and cannot be downloaded.
        ImportError: an import path cannot be imported.
    """
    folder = Path(root)
    num_classes = None if class_names is None else len(class_names)
    if name in CARDS:
        card = CARDS[name]
        pixels, labels = card.read(folder, train)
        chosen = evenly_spaced(len(labels), count)
        pixels = pixels[chosen]
        labels = labels[chosen]
        preprocessing = preprocessing or Preprocessing(
            (card.channels, card.size, card.size), card.mean, card.std
        )
        if preprocessing.input_shape == pixels.shape[1:] and preprocessing.resize is None:
            found = LabelledSet(preprocessing, pixels, labels)
        else:
            items: Items = TensorDataset(pixels, labels)
            count = len(card.class_names)
            found = _decode(items, torch.arange(len(labels)), preprocessing, count, name)
        return _known_classes(found, card.class_names, class_names, class_file)
    if preprocessing is None:
        raise InvalidArgument(
            "preprocessing", f"the images of {name} have no size of their own; give the network's"
        )
    if name == IMAGE_FOLDER:
        from dynadfq.data.folder import open_folder

        return open_folder(folder, train, preprocessing, count, class_names, class_file)
    items = _items(name, folder, train)
    own = class_names_of(items)
    if own is None and class_file is not None:
        raise InvalidArgument(
            "class_file",
            f"{name} has no class names that {class_file} could number; leave it out, or give the "
            "data set an attribute classes",
        )
    order = None
    if own is not None and class_names is not None:
        given = read_classes(class_file) if class_file else None
        order = class_order(own, class_names, given, LABELS)
    elif num_classes is not None:
        order = ClassOrder(tuple(range(num_classes)), "labels of a data set without class names")
    chosen = evenly_spaced(len(items), count)
    found = _decode(items, chosen, preprocessing, len(own) if own else num_classes, name)
    return found if order is None else _numbered(found, order)


def _items(name: str, root: Path, train: bool) -> Items:
    if name.startswith(TORCHVISION):
        return torchvision_items(name.removeprefix(TORCHVISION), root, train)
    return own_items(name, root, train)


def _decode(
    items: Items, chosen: Tensor, preprocessing: Preprocessing, num_classes: int | None, name: str
) -> LabelledSet:
    """Read the chosen items, each once."""
    shape = (len(chosen), *preprocessing.input_shape)
    pixels = temporary_tensor(shape, torch.uint8, folder=_scratch())
    labels = torch.empty(len(chosen), dtype=torch.int64)
    for row, index in enumerate(chosen.tolist()):
        image, label = read_item(items, index, name)
        labels[row] = label
        _require_labels(labels[row : row + 1], num_classes, name)
        try:
            pixels[row] = preprocessing.pixels(image)
        except ValueError as error:
            raise InvalidArgument("name", f"item {index} of {name}: {error}") from error
    return LabelledSet(preprocessing, pixels, labels)


def _known_classes(
    found: LabelledSet,
    own: Sequence[str],
    class_names: Sequence[str] | None,
    class_file: Path | None,
) -> LabelledSet:
    """Number labels of a known data set as the network's classes of these names.

    A network without names has the classes of the data set that it was trained on, unless a class
    file says otherwise.
    """
    if class_names is not None and class_file is not None:
        return _numbered(found, class_order(own, class_names, read_classes(class_file), LABELS))
    if class_names is None or (are_numbers(class_names) and len(class_names) == len(own)):
        return found
    order = class_order(own, class_names, source=LABELS)
    same = not order.assumed and order.indices == tuple(range(len(own)))
    return found if same else _numbered(found, order)


def _numbered(found: LabelledSet, order: ClassOrder) -> LabelledSet:
    """Number labels as the network's classes."""
    labels = torch.tensor(order.indices)[found.labels]
    return replace(found, labels=labels, classes=order)


def _require_labels(labels: Tensor, num_classes: int | None, name: str) -> None:
    """Check that labels are class numbers; ``num_classes`` None allows any that is not negative."""
    wrong = labels < 0
    allowed = "negative"
    if num_classes is not None:
        wrong = wrong | (labels >= num_classes)
        allowed = f"outside the {num_classes} classes, 0 … {num_classes - 1}"
    if wrong.any():
        raise InvalidArgument(
            "name",
            f"a label of {name} is {int(labels[wrong][0])}, {allowed}; give labels of its classes",
        )


def _scratch() -> Path:
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"
