"""The content of ``export.json``: the sizes of a student's files, and how each was checked."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from dynadfq.export.config import Format
from dynadfq.runtime.artifact import Record, Size
from dynadfq.runtime.config import Config

Count = Annotated[int, Field(ge=0)]


class ExportedFile(Config):
    """A file in one format (``files.write_file``); what an exporter adds is kept."""

    model_config = ConfigDict(extra="allow")

    format: Format
    bytes: Size
    opset: Count | None
    images_checked: Count
    worst_logit_difference: Annotated[float, Field(ge=0)]
    not_integer: tuple[str, ...]
    versions: dict[str, str]


class ExportRecord(Record):
    """``export.json``; the student's own size is that of its packed codes."""

    FORMAT: ClassVar[str] = "dynadfq-export/1"
    STAGE: ClassVar[str] = "export"

    float_bytes: Size
    packed_bytes: Size
    files: tuple[ExportedFile, ...]
