"""The content of ``teacher.json``: what is known of a float network beside its weights."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from dynadfq.runtime.artifact import Checksum, Record, Size
from dynadfq.zoo.teacher_metadata import TeacherMetadata

FACTS = "teacher.json"
WEIGHTS = "model.safetensors"


class TeacherFacts(TeacherMetadata):
    """The arguments of ``Teacher`` other than the network, and the sha256 of its weights' file."""

    class_names: tuple[str, ...]
    architecture: str | None
    source: str
    float_top1: Annotated[float, Field(ge=0, le=100)] | None
    sha256: Checksum


class TeacherRecord(TeacherFacts, Record):
    """``teacher.json``; ``bytes`` is the size of the weights' file."""

    FORMAT: ClassVar[str] = "dynadfq-teacher/1"
    STAGE: ClassVar[str] = "teacher"

    bytes: Size
