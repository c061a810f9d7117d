"""What `data.name` may be: a known set, a folder of images, one of torchvision's sets, an import
path, or null.
"""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import AfterValidator

from dynadfq.runtime.import_path import is_import_path

CLASSES = {"digits": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}
IMAGE_FOLDER = "image-folder"
TORCHVISION = "torchvision/"
KNOWN = (*CLASSES, IMAGE_FOLDER)
ALLOWED = f"null, {', '.join(KNOWN)}, torchvision/… (a data set of its), or an import path such as my_pkg.data:build"


def nearest(name: str) -> str:
    """``; did you mean …?`` with the nearest name of a data set, empty where none is near.

    >>> nearest("cifar_10"), nearest("torchvision/SVNH"), nearest("my data")
    ('; did you mean cifar10?', '; did you mean torchvision/SVHN?', '')
    """
    theirs = torchvision_sets() if name.startswith("torch") else ()
    near = difflib.get_close_matches(name, [*KNOWN, *theirs], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def checked(name: str | None) -> str | None:
    """The name, if it has one of the permitted forms; nothing of the user's is imported.

    Raises:
        ValueError: it has none; the message goes on from "… is".
    """
    if name is None or name in KNOWN or is_import_path(name):
        return name
    if name.startswith(TORCHVISION) and name in torchvision_sets():
        return name
    raise ValueError(f"not {ALLOWED}{nearest(name)}")


def torchvision_sets() -> tuple[str, ...]:
    """What torchvision has, as `data.name` writes it."""
    from torchvision import datasets  # here, because its import takes longer than all other checks

    return tuple(f"{TORCHVISION}{name}" for name in datasets.__all__)


DataName = Annotated[str | None, AfterValidator(checked)]
