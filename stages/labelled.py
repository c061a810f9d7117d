"""The labelled images that a teacher and its students are measured on."""

from __future__ import annotations

from typing import Any

from dynadfq import data
from dynadfq.teacher import Teacher
from stages.runtime import root


def test_set(source: Any, teacher: Teacher, count: int | None) -> data.LabelledSet | None:
    """``count`` images of the section ``data``, as the teacher reads and numbers them; None where none is named."""
    if source.name is None:
        return None
    return data.load(
        source.name,
        root(source.root),
        preprocessing=teacher.preprocessing,
        count=count,
        class_names=teacher.class_names,
        class_file=root(source.classes) if source.classes else None,
    )
