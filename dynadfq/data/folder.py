"""Folders of images in ImageNet's layout: one folder per class."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes

TRAINING = ("train",)
EVALUATION = ("val", "test", "validation")


def image_folder(root: Path, train: bool) -> ImageFolder:
    """Return the images below ``root/train`` or ``root/val`` (or ``test``).

    A folder without these parts is an evaluation set itself. Files without an image's extension
    are ignored.

    Args:
        root: folder of the data set.
        train: training part instead of the evaluation part.

    Raises:
        FileNotFoundError: there is no such part, or no image in it.
    """
    part = _part(root, train)
    try:
        images = ImageFolder(str(part), allow_empty=True)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"root: {part} has no class folders; give a folder of <class>/<image>"
        ) from None
    if not images.samples:
        raise FileNotFoundError(
            f"root: no image ({', '.join(IMG_EXTENSIONS)}) in the class folders of {part}"
        )
    return images


def folder_names(root: Path) -> tuple[str, ...]:
    """Return the sorted class folders of the training part if there is one, else of the other."""
    return tuple(find_classes(str(_part(root, train=_has_training_part(root))))[0])


def _has_training_part(root: Path) -> bool:
    return any((root / name).is_dir() for name in TRAINING)


def _part(root: Path, train: bool) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"root: {root} is not a folder; give the folder of the images")
    names = TRAINING if train else EVALUATION
    for name in names:
        if (root / name).is_dir():
            return root / name
    if train or _has_training_part(root):
        wanted = " or ".join(f"{name}/" for name in names)
        raise FileNotFoundError(f"root: {root} has no folder {wanted}; put <class>/<image> in one")
    return root
