"""Settings of the export: which files are made of the dynamic student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from dynadfq.runtime.config import MAX_COUNT, Config, setting
from dynadfq.runtime.errors import shown

Format = Literal["qdq", "onnx-codes", "pt2"]


def _each_once(formats: tuple[Format, ...]) -> tuple[Format, ...]:
    if len(set(formats)) < len(formats):
        raise ValueError(f"must be without repetition; got {shown(formats)}")
    return formats


class ExportConfig(Config):
    """Files that run without this library, each checked to give the student's results."""

    formats: Annotated[tuple[Format, ...], AfterValidator(_each_once)] = setting(
        (),
        "ONNX for integer engines (qdq, with quantization.scheme: integer), ONNX with products of "
        "integer codes in float32 for per-image widths (onnx-codes), and a torch.export program "
        "(pt2); [] is none",
        allowed="a list of qdq, onnx-codes, pt2",
        strict=False,
    )
    check_images: int = setting(
        64,
        "synthetic images that each file is checked on, at most all there are",
        unit="images",
        ge=1,
        le=MAX_COUNT,
    )
