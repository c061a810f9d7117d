"""Settings of the evaluation."""

from __future__ import annotations

from dynadfq.quant.width_config import Widths
from dynadfq.runtime.config import MAX_BATCH, MAX_COUNT, Config, setting


class EvaluationConfig(Config):
    """Measurements on the test images of the data set."""

    batch_size: int = setting(
        256, "images in a forward pass; no result depends on it", unit="images", ge=1, le=MAX_BATCH
    )
    test_images: int | None = setting(
        None,
        "test images that are measured, evenly spread over the set; null is all of them",
        unit="images",
        ge=1,
        le=MAX_COUNT,
    )
    control_repeats: int = setting(
        5,
        "random reassignments of the chosen widths to images in the control",
        unit="repeats",
        ge=1,
        le=1000,
    )
    budgets: int = setting(
        9,
        "points on the curve of accuracy against bit-FLOPs: the dynamic student at bit budgets "
        "from its smallest to its largest; 0 is none",
        unit="budgets",
        ge=0,
        le=1000,
    )
    sensitivity_bits: Widths = setting(
        (2, 3, 4, 5, 6, 7, 8),
        "uniform widths at which predictions are compared with the teacher's; [] is none",
        unit="bits",
        allowed="a list of whole numbers in 2 … 8, ascending",
        items="2 … 8",
        strict=False,
    )
