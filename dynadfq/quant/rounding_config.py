"""Settings of learned rounding, which AdaRound and block reconstruction share."""

from __future__ import annotations

from typing import Literal

from dynadfq.runtime.config import MAX_BATCH, MAX_COUNT, MAX_RATE, MAX_WEIGHT, Config, setting

AIMET = "AIMET, released code"
BLOCKWISE = "BRECQ, QDrop and Genie-M, released code"


class LearnedRounding(Config):
    """Settings of roundings that are learned by reconstructing float outputs."""

    num_images: int = setting(
        1024,
        "most synthetic images to use; a layer's or block's inputs and outputs on all of them are "
        "held, in temporary files (TMPDIR) where they are large",
        unit="images",
        source="AdaRound, Sec. 5",
        ge=1,
        le=MAX_COUNT,
    )
    batch_size: int = setting(
        32, "images per step", unit="images", source="AdaRound, Sec. 5", ge=1, le=MAX_BATCH
    )
    learning_rate: float = setting(
        1e-3, "learning rate of Adam on the roundings", source=AIMET, gt=0, le=MAX_RATE
    )
    regularization: float = setting(
        0.01,
        "λ, weight of the term that pushes roundings to 0 or 1",
        source="AdaRound, Eq. 21; value: AIMET; Genie-M: 1",
        ge=0,
        le=MAX_WEIGHT,
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
        source=f"cosine: AIMET; linear: {BLOCKWISE}",
    )
    iterations: int = setting(10_000, "steps per layer or block", unit="steps", ge=1, le=MAX_COUNT)


class BlockReconstructionConfig(LearnedRounding):
    """Settings of block reconstruction (rounding: block): of BRECQ, QDrop and Genie-M."""

    iterations: int = setting(
        20_000, "steps per block", unit="steps", source=BLOCKWISE, ge=1, le=MAX_COUNT
    )
    annealing: Literal["cosine", "linear"] = setting(
        "linear",
        "how the rounding term's exponent β falls from 20 to 2",
        source=f"cosine: AIMET; linear: {BLOCKWISE}",
    )
    drop: float = setting(
        0.5,
        "probability that an element of an activation stays unquantized, and that an element of a "
        "block's input is the float network's",
        source="QDrop, arXiv 2203.05740, Sec. 4; 0: BRECQ",
        ge=0,
        le=1,
    )
    scale_rate: float = setting(
        1e-3,
        "initial learning rate of Adam on the logarithms of weight scales; 0 keeps those of least "
        "error",
        source="dynadfq; Genie-M, released code: 1e-4, on the scales; 0: BRECQ, QDrop",
        ge=0,
        le=MAX_RATE,
    )
    range_rate: float = setting(
        4e-5,
        "initial learning rate of Adam on activation ranges, where these are learned",
        source="QDrop and Genie-M, released code",
        ge=0,
        le=MAX_RATE,
    )
