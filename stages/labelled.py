"""Labelled images: what a teacher is trained on, and what it and its students are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynadfq import data
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.teacher.teacher import Teacher
from stages.runtime import root, yaml_keys


def labelled_set(
    source: Any,
    train: bool,
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    count: int | None = None,
) -> data.LabelledSet:
    """``count`` images of the section ``data``, as a network of these class names reads and numbers
    them.
    """
    with yaml_keys("data", class_file="data.classes"):
        return data.load(
            source.name,
            root(source.root),
            train,
            preprocessing,
            count=count,
            class_names=class_names,
            class_file=root(source.classes) if source.classes else None,
        )


def test_set(source: Any, teacher: Teacher, count: int | None) -> data.LabelledSet | None:
    """The images that are measured; None where the section names none."""
    if source.name is None:
        return None
    return labelled_set(source, False, teacher.preprocessing, teacher.class_names, count)
