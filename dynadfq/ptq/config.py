"""Settings of AdaRound (Nagel et al., ICML 2020, arXiv 2004.10568)."""

from __future__ import annotations

from typing import Literal

from dynadfq.runtime.config import Config, setting

AIMET = "AIMET, released code"


class AdaRoundConfig(Config):
    """Settings of AdaRound's learned rounding."""

    iterations: int = setting(
        10_000, "steps per layer", unit="steps", source="AdaRound, Sec. 5", ge=1
    )
    num_images: int = setting(
        1024,
        "most synthetic images to use; a layer's inputs and outputs on all of them are held, in "
        "temporary files (TMPDIR) where they are large",
        unit="images",
        source="AdaRound, Sec. 5",
        ge=1,
    )
    batch_size: int = setting(32, "images per step", unit="images", source="AdaRound, Sec. 5", ge=1)
    learning_rate: float = setting(
        1e-3, "learning rate of Adam on the roundings", source=AIMET, gt=0
    )
    regularization: float = setting(
        0.01,
        "λ, weight of the term that pushes roundings to 0 or 1",
        source="AdaRound, Eq. 21; value: AIMET",
        ge=0,
    )
    warm_start: float = setting(
        0.2,
        "share of the steps before that term sets in",
        unit="fraction",
        source=AIMET,
        ge=0,
        le=0.9,
    )
    annealing: Literal["cosine", "linear"] = setting(
        "cosine",
        "how the term's exponent β falls from 20 to 2",
        source="cosine: AIMET; linear: BRECQ, QDrop",
    )
