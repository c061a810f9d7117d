"""Folders of images in ImageNet's layout: one folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension

from dynadfq.data.class_file import read_classes
from dynadfq.data.classes import ClassOrder, class_order
from dynadfq.data.decoded import LabelledFiles
from dynadfq.data.labelled import evenly_spaced
from dynadfq.ops.preprocess import Preprocessing

TRAINING = ("train",)
EVALUATION = ("val", "test", "validation")


class VisibleImages(ImageFolder):  # type: ignore[misc]  # torchvision has no types
    """Images of one folder per class, without hidden folders and files.

    Editors and other systems leave such beside images: ``.ipynb_checkpoints``, ``._a.png``.

    Args:
        root: folder of the class folders.
    """

    def __init__(self, root: Path) -> None:
        self.hidden: list[str] = []  # names of hidden folders among the class folders
        super().__init__(str(root), is_valid_file=self._is_image, allow_empty=True)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the sorted class folders, and the number of each.

        Raises:
            FileNotFoundError: there are none.
        """
        folders = sorted(path.name for path in Path(directory).iterdir() if path.is_dir())
        self.hidden = [name for name in folders if _is_hidden(name)]
        visible = [name for name in folders if not _is_hidden(name)]
        if not visible:  # torchvision's own error says neither which folder nor what to do
            raise FileNotFoundError(
                f"root: {directory} has no class folders; give a folder of <class>/<image>"
            )
        return visible, {name: number for number, name in enumerate(visible)}

    def _is_image(self, path: str) -> bool:
        below = Path(path).relative_to(self.root).parts
        return has_file_allowed_extension(path, IMG_EXTENSIONS) and not any(map(_is_hidden, below))


def image_folder(root: Path, train: bool) -> VisibleImages:
    """Return the images below ``root/train`` or ``root/val`` (or ``test``).

    A folder without these parts is an evaluation set itself, whose classes may have their names,
    such as CIFAR-100's train. Files without an image's extension are ignored, and so are hidden
    ones.

    Args:
        root: folder of the data set.
        train: training part instead of the evaluation part.

    Raises:
        FileNotFoundError: there is no such part, or no image in it.
    """
    part = _part(root, train)
    images = VisibleImages(part)
    if not images.samples:
        raise FileNotFoundError(
            f"root: no image ({', '.join(IMG_EXTENSIONS)}) in the class folders of {part}"
        )
    return images


def open_folder(
    root: Path,
    train: bool,
    preprocessing: Preprocessing,
    count: int | None,
    class_names: Sequence[str] | None,
    class_file: Path | None,
) -> LabelledFiles:
    """Return labelled image files, of which none is decoded yet; see ``open_labelled``."""
    files = image_folder(root, train)
    if class_names is None:
        order = ClassOrder(tuple(range(len(files.classes))), "its own")
    else:
        given = read_classes(class_file) if class_file else None
        order = class_order(files.classes, class_names, given)
    if files.hidden:
        hidden = f"{order.origin}; hidden folders are passed over: {', '.join(files.hidden)}"
        order = replace(order, origin=hidden)
    chosen = evenly_spaced(len(files), count)
    labels = torch.tensor(order.indices)[torch.tensor(files.targets)[chosen]]
    paths = [Path(files.samples[index][0]) for index in chosen.tolist()]
    return LabelledFiles(preprocessing, paths, labels, order)


def folder_names(root: Path) -> tuple[str, ...]:
    """Return the sorted class folders of the training part if there is one, else of the other."""
    return tuple(image_folder(root, train=_has_training_part(root)).classes)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _has_training_part(root: Path) -> bool:
    return any(_is_part(root / name) for name in TRAINING)


def _is_part(path: Path) -> bool:
    """Whether a folder holds class folders; one with images alone is a class of that name."""
    if not path.is_dir():
        return False
    inside = [entry for entry in path.iterdir() if not _is_hidden(entry.name)]
    images = (has_file_allowed_extension(entry.name, IMG_EXTENSIONS) for entry in inside)
    return any(entry.is_dir() for entry in inside) or not any(images)


def _part(root: Path, train: bool) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"root: {root} is not a folder; give the folder of the images")
    names = TRAINING if train else EVALUATION
    for name in names:
        if _is_part(root / name):
            return root / name
    if train or _has_training_part(root):
        wanted = " or ".join(f"{name}/" for name in names)
        raise FileNotFoundError(f"root: {root} has no folder {wanted}; put <class>/<image> in one")
    return root
