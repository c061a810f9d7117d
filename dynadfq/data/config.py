"""Settings of the labelled data set."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from dynadfq.runtime.config import MAX_SIDE, PAPER, Config, setting
from dynadfq.runtime.errors import did_you_mean, shown
from dynadfq.runtime.import_path import is_import_path

CLASSES = {"digits": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}
SHAPES = {
    "digits": (1, 8, 8),
    "fashion-mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
}
IMAGE_FOLDER = "image-folder"
TORCHVISION = "torchvision/"
KNOWN = (*CLASSES, IMAGE_FOLDER)
ALLOWED = (
    f"null, {', '.join(KNOWN)}, torchvision/… (one of its data sets), or an import path such as "
    "my_pkg.data:build"
)


def torchvision_sets() -> tuple[str, ...]:
    """Return the names of torchvision's data sets, as `data.name` writes them."""
    package = find_spec("torchvision")
    assert package is not None and package.submodule_search_locations
    # Read, not imported: importing it takes longer than all other checks of the parameters.
    file = Path(package.submodule_search_locations[0]) / "datasets" / "__init__.py"
    listed = re.search(r"__all__ = (\(.*?\))", file.read_text(), flags=re.DOTALL)
    assert listed is not None
    return tuple(f"{TORCHVISION}{name}" for name in ast.literal_eval(listed[1]))


def _known(name: str | None) -> str | None:
    """Return the name if it has one of the permitted forms; user code is not imported."""
    if name is None or name in KNOWN or is_import_path(name):
        return name
    if name.startswith(TORCHVISION) and name in torchvision_sets():
        return name
    of_torchvision = torchvision_sets() if name.startswith("torch") else ()
    near = did_you_mean(name, [*KNOWN, *of_torchvision])
    raise ValueError(f"must be {ALLOWED}; got {shown(name)}{near}")


class DataConfig(Config):
    """The labelled data set for evaluation, and for training a teacher without a checkpoint."""

    name: Annotated[str | None, AfterValidator(_known)] = setting(
        "cifar10",
        "the data set; null is none: what needs no labels is then measured on the synthetic images",
        source=f"{PAPER}, Sec. 4.1",
        allowed=ALLOWED,
    )
    root: str = setting(
        "data",
        "folder of the data set's files; a relative path starts at the repository; an image "
        "folder has `train/<class>/…` and `val/<class>/…`, or, to evaluate only, `<class>/…`",
        min_length=1,
    )
    classes: str | None = setting(
        None,
        "file that says which class of the teacher each class of the data set is (a folder of an "
        "image folder): one name per line, or ImageNet's class_index.json; null uses the teacher's "
        "class names, or the order of the data set's classes",
        min_length=1,
    )
    fingerprint: str | None = setting(
        None,
        "what the files of an image folder and the file of `classes` must have: a fingerprint of "
        "the names and sizes of the former and the content of the latter, which the stages print. "
        "DVC does not look at the files, but it does see a new value here; null accepts any files",
        min_length=1,
    )
    image_size: int | None = setting(
        None,
        "side to which images are resized; null keeps the data set's own",
        unit="pixels",
        ge=8,
        le=MAX_SIDE,
    )
