"""Labelled images: what a teacher is trained on, and what it and its students are measured on."""

from __future__ import annotations

from collections.abc import Sequence

from dynadfq.data.config import DataConfig
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import load
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.teacher.teacher import Teacher
from stages.runtime import root


def labelled_set(
    data: DataConfig,
    train: bool,
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    count: int | None = None,
) -> LabelledSet:
    """Return ``count`` images of the data set, in the size and class order of a network."""
    assert data.name is not None
    return load(
        data.name,
        root(data.root),
        train,
        preprocessing,
        count=count,
        class_names=class_names,
        class_file=root(data.classes) if data.classes else None,
    )


def test_set(data: DataConfig, teacher: Teacher, count: int | None) -> LabelledSet | None:
    """Return the test images; None where no data set is named."""
    if data.name is None:
        return None
    return labelled_set(data, False, teacher.preprocessing, teacher.class_names, count)
