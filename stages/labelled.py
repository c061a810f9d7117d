"""Labelled images: what a teacher is trained on, and what it and its students are measured on."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dynadfq.data.config import DataConfig
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import load
from dynadfq.data.untracked import untracked
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.teacher.teacher import Teacher
from stages.runtime import root


def data_fingerprint(data: DataConfig) -> str | None:
    """Return the fingerprint of a data set's files and print it; None where nothing has one.

    Raises:
        InvalidArgument: it is not ``data.fingerprint``.
    """
    found = untracked(data.name, root(data.root), root(data.classes) if data.classes else None)
    if found is None:
        return None
    found.require(data.fingerprint)
    if data.fingerprint is None:
        print(found.notice("data.fingerprint"), file=sys.stderr)
    return found.fingerprint


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
