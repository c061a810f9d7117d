"""Labelled images: what a teacher is trained on, and what it and its students are measured on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dynadfq.data.config import IMAGE_FOLDER, DataConfig
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import load
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import listing
from dynadfq.teacher.teacher import Teacher
from stages.runtime import root


def data_fingerprint(data: DataConfig) -> str | None:
    """Return the fingerprint of an image folder's files and print it; None for other data sets.

    Raises:
        InvalidArgument: it is not ``data.fingerprint``.
    """
    if data.name != IMAGE_FOLDER:
        return None
    folder = root(data.root)
    found = listing(folder)
    if data.fingerprint not in (None, found):
        raise InvalidArgument(
            "fingerprint",
            f"{data.fingerprint} in params.yaml, but the files in {folder} have {found}; write "
            "that if they are the right ones, so that DVC runs the stages that read them",
        )
    if data.fingerprint is None:
        print(
            f"The files in {folder} have the fingerprint {found}. DVC does not see when they "
            "change, unless you set data.fingerprint to it",
            file=sys.stderr,
        )
    return found


def labelled_set(
    data: DataConfig,
    train: bool,
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    count: int | None = None,
) -> LabelledSet:
    """Return ``count`` images of the data set, in the size and class order of a network.

    How classes were matched is printed.
    """
    assert data.name is not None
    found = load(
        data.name,
        root(data.root),
        train,
        preprocessing,
        count=count,
        class_names=class_names,
        class_file=root(data.classes) if data.classes else None,
    )
    if found.classes is not None:
        print(f"classes of {data.name}: {found.classes.origin}", file=sys.stderr)
    return found


def test_set(data: DataConfig, teacher: Teacher, count: int | None) -> LabelledSet | None:
    """Return the test images; None where no data set is named."""
    if data.name is None:
        return None
    return labelled_set(data, False, teacher.preprocessing, teacher.class_names, count)
