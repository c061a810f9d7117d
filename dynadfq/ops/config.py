"""Values that settings of preprocessing and precision take, without torch."""

from __future__ import annotations

from typing import Literal

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Precision = Literal["float32", "tf32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "tf32", "bfloat16"]
