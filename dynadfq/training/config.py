"""Settings of fine-tuning: the student's steps and learning rates, and the selector's budget."""

from __future__ import annotations

from math import ceil

from dynadfq.losses.config import Form
from dynadfq.quant.selector_config import CandidatesConfig
from dynadfq.runtime.config import (
    LINEAGE,
    MAX_BATCH,
    MAX_COUNT,
    MAX_RATE,
    MAX_WEIGHT,
    PAPER,
    Config,
    setting,
)

TRAINING = f"{PAPER}, Sec. 4.1"
CIFAR = f"{TRAINING} (CIFAR)"


class EarlyStoppingConfig(Config):
    """The end of fine-tuning by agreement with the teacher on synthetic images held back from it.

    The student of the last epoch with the highest agreement is kept. Epochs whose mean bit-FLOPs on
    these images exceed the target by at most 1 % are preferred to all others, if there are any.
    """

    images: int = setting(
        0,
        "synthetic images that are held back, as many of each class as possible: the student "
        "neither learns from them nor is calibrated on them; 0 is off, and keeps the last epoch",
        unit="images",
        ge=0,
        le=MAX_COUNT,
    )
    patience: int = setting(
        10,
        "fine-tuning ends when so many epochs have passed since the one that would be kept",
        unit="epochs",
        ge=1,
        le=MAX_COUNT,
    )


class FinetuneConfig(Config):
    """Training of the student on the synthetic images by SGD with Nesterov momentum."""

    epochs: int = setting(
        400, "length of the training; 0 is none", unit="epochs", source=CIFAR, ge=0, le=MAX_COUNT
    )
    steps: int | None = setting(
        None,
        "length of the training in place of `epochs`; its last epoch may be shorter",
        unit="steps",
        ge=0,
        le=MAX_COUNT,
    )
    steps_per_epoch: int | None = setting(
        None,
        "steps of an epoch; null is one pass over the images, the last batch filled up",
        unit="steps",
        source=f"dynadfq; {LINEAGE}: 200, the paper does not say",
        ge=1,
        le=MAX_COUNT,
    )
    batch_size: int = setting(
        256, "images in a step", unit="images", source=CIFAR, ge=1, le=MAX_BATCH
    )
    learning_rate: float = setting(
        1e-5, "initial learning rate of the weights", source=CIFAR, gt=0, le=MAX_RATE
    )
    range_learning_rate: float = setting(
        1e-5,
        "initial learning rate of the activation ranges",
        source="the weights' rate; the paper gives none",
        gt=0,
        le=MAX_RATE,
    )
    decay: float = setting(
        0.1,
        "factor on every learning rate after each `decay_every` epochs",
        source=TRAINING,
        gt=0,
        le=1,
    )
    decay_every: int = setting(
        100, "epochs between decays", unit="epochs", source=CIFAR, ge=1, le=MAX_COUNT
    )
    momentum: float = setting(0.9, "Nesterov momentum", source=LINEAGE, ge=0, lt=1)
    weight_decay: float = setting(1e-4, "weight decay of the weights", source=LINEAGE, ge=0, le=1)
    max_gradient_norm: float = setting(
        0.0,
        "maximum norm of the gradient of all weights together; a larger gradient is scaled down to "
        "it (gradient clipping); 0 is no limit",
        source="no limit: the paper names none; arXiv 1211.5063, Sec. 3.2",
        ge=0,
        le=MAX_WEIGHT,
    )
    calibration_images: int = setting(
        1024,
        "synthetic images that set the activation ranges before training",
        unit="images",
        ge=1,
        le=MAX_COUNT,
    )
    crop_scale: float = setting(
        0.5,
        "smallest area of a random resized crop; 1 is off",
        unit="fraction of the image",
        source=LINEAGE,
        ge=0.01,
        le=1,
    )
    horizontal_flip: bool = setting(True, "mirror half of the images", source=LINEAGE)
    clipped_gradient: bool = setting(
        False,
        "where ranges are not learned, clipped activations pass their gradient on; "
        "false: their gradient is 0",
        source=f"false: dynadfq; true: {LINEAGE}",
    )
    attention_transfer: float = setting(
        0.0,
        "weight of the distance of channel and spatial attentions of student and teacher at the "
        "ends of residual branches, added to any method's loss; 0 is off",
        source="AKT, arXiv 2412.19125; 3125 in its released code, whose distillation has weight 1",
        ge=0,
        le=MAX_WEIGHT,
    )

    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()

    def epoch_steps(self, images: int) -> int:
        """Return the steps of an epoch: as set, or a pass over the images in whole batches."""
        return self.steps_per_epoch or ceil(images / self.batch_size)

    def total_steps(self, images: int) -> int:
        """Return the steps of the training on a number of images."""
        return self.epochs * self.epoch_steps(images) if self.steps is None else self.steps


class SelectorTrainingConfig(Config):
    """Training of the bit selector, and the bit-FLOPs budget."""

    any_width: bool = setting(
        False,
        "fine-tune for every width: each image runs at widths that are drawn, and the selector "
        "learns afterwards in its warm-up, without learning_rate, budget and bit_weight; false: "
        "the selector learns with the student; no effect on students of one width (the fixed one, "
        "scheme: integer)",
        source=f"false: {PAPER}, Eq. 11; true: sandwich rule (arXiv 1903.05134)",
    )
    learning_rate: float = setting(
        1e-3,
        "initial learning rate of the selector, decayed as the weights' is",
        source=CIFAR,
        gt=0,
        le=MAX_RATE,
    )
    budget: Form = setting(
        "penalty",
        "how the target binds: Eq. 10's penalty on each image above it, or a Lagrange multiplier "
        "that holds the mean at it",
        source=f"penalty: {PAPER}, Eq. 10; constraint: dynadfq",
    )
    bit_weight: float = setting(
        100.0,
        "γ, weight of the penalty; for a constraint, the curvature of its quadratic part",
        source=f"{PAPER}, Eq. 11; value in Sec. 4.1",
        ge=0,
        le=MAX_WEIGHT,
    )
    warm_up_images: int = setting(
        0,
        "synthetic images on which the sensitivity to every width is measured, at every site that "
        "the selector chooses for, to train it before fine-tuning, or after it (any_width); 0 is "
        "off",
        unit="images",
        ge=0,
        le=MAX_COUNT,
    )
    warm_up_steps: int = setting(
        500, "steps of Adam on the selector in its warm-up", unit="steps", ge=1, le=MAX_COUNT
    )
    warm_up_learning_rate: float = setting(
        1e-3, "learning rate of Adam on the selector in its warm-up", gt=0, le=MAX_RATE
    )
    warm_up_weight_decay: float = setting(
        1e-3, "weight decay of the selector in its warm-up", ge=0, le=1
    )


class SelectorConfig(SelectorTrainingConfig, CandidatesConfig):
    """The bit selector's network and training; only the dynamic student reads these settings."""
