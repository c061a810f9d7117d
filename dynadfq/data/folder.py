"""Folders of images in ImageNet's layout: a folder a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

PARTS = {True: ("train",), False: ("val", "test", "validation")}  # by whether it is to train


@dataclass(frozen=True)
class ImageFolder:
    """Image files with the folder that each lies in, as a number into the sorted ``names``."""

    paths: tuple[Path, ...]
    numbers: tuple[int, ...]
    names: tuple[str, ...]


def image_folder(root: Path, train: bool) -> ImageFolder:
    """The images below a folder's ``train`` or ``val`` (or ``test``), or below the folder itself to
    evaluate only.

    Files that do not end as images do are passed over; the order is torchvision's.

    Raises:
        FileNotFoundError: there is no such part, or no image in it.
    """
    place = _part(root, train)
    try:
        names, places = find_classes(str(place))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"data.root: {place} has no class folders; give a folder of <class>/<image>"
        ) from None
    samples = make_dataset(str(place), places, extensions=IMG_EXTENSIONS, allow_empty=True)
    if not samples:
        raise FileNotFoundError(
            f"data.root: no image ({', '.join(IMG_EXTENSIONS)}) in the class folders of {place}"
        )
    paths, numbers = zip(*samples, strict=True)
    return ImageFolder(tuple(map(Path, paths)), numbers, tuple(names))


def folder_names(root: Path) -> tuple[str, ...]:
    """The class folders to train on where there are any, else those to evaluate on, sorted."""
    train = any((root / name).is_dir() for name in PARTS[True])
    return tuple(find_classes(str(_part(root, train)))[0])


def _part(root: Path, train: bool) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"data.root: {root} is no folder; give the folder of the images")
    for name in PARTS[train]:
        if (root / name).is_dir():
            return root / name
    if train or any((root / name).is_dir() for name in PARTS[True]):
        wanted = " or ".join(f"{name}/" for name in PARTS[train])
        raise FileNotFoundError(
            f"data.root: {root} has no folder {wanted}; put <class>/<image> in one"
        )
    return root
