"""Settings of synthesis: how images are optimized, how many there are and how they are stored."""

from __future__ import annotations

from typing import Literal

from dynadfq.runtime.config import MAX_BATCH, MAX_COUNT, MAX_RATE, PAPER, Config, setting

Storage = Literal["float32", "float16"]
Basis = Literal["pixels", "cosines"]
Schedule = Literal["plateau", "linear"]
Mixing = Literal["sum", "mean"]
LARGE = 64  # pixels; longer sides get class-conditional BatchNorm from `large_images`

TRAINING = f"{PAPER}, Sec. 4.1"


class PixelOptimizerConfig(Config):
    """Adam on pixels, or on their cosine transform, and how its learning rate falls."""

    iterations: int = setting(
        4000,
        "steps of Adam on each batch, or of a generator's first training; 0 keeps the noise",
        unit="steps",
        source=TRAINING,
        ge=0,
        le=MAX_COUNT,
    )
    learning_rate: float = setting(
        0.5, "initial learning rate of Adam", source=TRAINING, gt=0, le=MAX_RATE
    )
    basis: Basis = setting(
        "pixels",
        "what Adam moves: pixels, or coefficients of cosines scaled by 1/frequency, which need "
        "fewer iterations",
        source=f"pixels: {TRAINING}; cosines: after Olah et al., Distill 2017",
    )
    schedule: Schedule = setting(
        "plateau",
        "the learning rate falls when the loss has stopped decreasing, or in equal parts from the "
        "first to the last iteration",
        source=f"plateau: {TRAINING}; linear: dynadfq, for few iterations",
    )
    beta1: float = setting(
        0.9, "Adam's β₁, decay of the mean gradient per step", source="Adam's default", ge=0, lt=1
    )
    beta2: float = setting(
        0.999,
        "Adam's β₂, decay of the mean squared gradient per step; gradients shrink quickly, so that "
        "few iterations need less, such as 0.95",
        source="Adam's default",
        ge=0,
        lt=1,
    )
    decay: float = setting(
        0.1,
        "factor on the learning rate when the loss has stopped decreasing",
        source=TRAINING,
        gt=0,
        le=1,
    )
    patience: int = setting(
        100,
        "steps without a lower loss before a decay",
        unit="steps",
        source=TRAINING,
        ge=1,
        le=MAX_COUNT,
    )
    min_learning_rate: float = setting(
        1e-4,
        "the learning rate falls no further",
        source="ZeroQ, released code",
        ge=0,
        le=MAX_RATE,
    )
    clip: bool = setting(
        False,
        "bring pixels back to the range of valid images after each step",
        source="DeepInversion, released code for ImageNet",
    )
    stop: bool = setting(
        False,
        "a batch ends before `iterations` when its loss has stopped decreasing at the least "
        "learning rate",
    )


def few_iterations(iterations: int, clip: bool = False) -> PixelOptimizerConfig:
    """Return Adam's settings with which few iterations give the best images, not the paper's.

    Cosines, a linear schedule and a short memory of Adam, as measured in docs/performance.md.

    Args:
        iterations: steps of Adam on each batch.
        clip: keep pixels in the range of valid images.
    """
    return PixelOptimizerConfig(
        iterations=iterations,
        clip=clip,
        basis="cosines",
        schedule="linear",
        learning_rate=0.2,
        beta1=0.8,
        beta2=0.9,
    )


class SynthesisConfig(PixelOptimizerConfig):
    """Optimization of the synthetic images; the method determines the losses."""

    num_images: int = setting(
        5120, "images to make", unit="images", source=TRAINING, ge=1, le=MAX_COUNT
    )
    batch_size: int = setting(
        64,
        "images optimized together, stored as one shard",
        unit="images",
        source=TRAINING,
        ge=1,
        le=MAX_BATCH,
    )
    storage: Storage = setting(
        "float32",
        "number type in which the images are stored; float16 takes half the space and rounds "
        "the pixels",
    )
