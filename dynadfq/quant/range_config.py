"""Settings of the clipping ranges of activation sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from dynadfq.runtime.config import LINEAGE, PAPER, Config, setting

RangeRule = Literal["max", "quantile", "mse", "median_max"]
RangeAverage = Literal["mean", "ema", "legacy_ema"]
RangeSharing = Literal["per_width"] | None


def ranges_of(widths: Sequence[int], per_width: bool) -> RangeSharing:
    """Return the ``ranges`` of a scheme.

    Args:
        widths: candidate widths in bits.
        per_width: whether each is to have a clipping range of its own.

    Returns:
        "per_width", or None where all share one range, as a single width does.
    """
    return "per_width" if per_width and len(widths) > 1 else None


class RangeConfig(Config):
    """The clipping range [low, high] of each activation site."""

    observer: RangeRule = setting(
        "mse",
        "range of a batch: its extremes (max), its quantiles, the range of least squared error, "
        "or the median of its images' extremes",
        source=f"dynadfq; max: {LINEAGE}",
    )
    quantile: float = setting(
        0.999,
        "share of a site's values up to each end of its range (observer: quantile)",
        unit="fraction",
        gt=0.5,
        le=1,
    )
    average: RangeAverage = setting(
        "mean",
        "how the ranges of batches become one: their mean, an exponential average, or the latter "
        "as released code has it, which overshoots a thousandfold in the first 150 batches",
        source=f"dynadfq; legacy_ema: {LINEAGE}",
    )
    learned: bool = setting(
        True,
        "fine-tuning moves the ranges by gradient; false keeps the calibrated ones",
        source=f"{PAPER}, Sec. 3.1 and Eq. 2; false: {LINEAGE}",
    )
    per_width: bool = setting(
        False,
        "each candidate width has a range of its own at every site; false: all widths share one",
        source=f"false: {PAPER}, Eq. 2; true: CADyQ (Hong et al., ECCV 2022)",
    )
