"""Settings of AdaRound (Nagel et al., ICML 2020, arXiv 2004.10568)."""

from __future__ import annotations

from dynadfq.quant.rounding_config import LearnedRounding
from dynadfq.runtime.config import MAX_COUNT, setting


class AdaRoundConfig(LearnedRounding):
    """Settings of AdaRound's learned rounding."""

    iterations: int = setting(
        10_000, "steps per layer", unit="steps", source="AdaRound, Sec. 5", ge=1, le=MAX_COUNT
    )
