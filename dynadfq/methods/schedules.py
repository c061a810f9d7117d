"""Published schedules: how each baseline's own code makes its images and trains its student.

A benchmark grid gives all methods one protocol; a part of it with ``published: true`` takes these
values instead. Names are those of presets: ``default`` is CIFAR, and a narrower name adds to those
that it begins with. What stands here is of the released code where there is one, in terms of this
library:

- Epochs count from the first update of the student. The code's first epochs, which only train a
  generator (4 of 200 steps for CIFAR, 50 for ImageNet), are ``synthesis.iterations`` of a
  generator's first training. Rates fall each ``decay_every`` epochs from there on: the code's
  first decay comes by these first epochs sooner, and its last is not repeated. AdaDFQ's rates for
  ResNet-50 fall at epochs 50 and 200 (3 bits) or 150 and 250 (4 bits) of the student; here, each
  150 epochs.
- Ranges are those of an exponential average of batches' extremes, which training does not move,
  and clipped activations pass their gradient.

SynQ's learning rate for CIFAR was searched (1e-4, 1e-5, 1e-6) and is left open.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynadfq.methods.base import beginnings

Value = bool | int | float | str
Values = Mapping[str, Value]  # by dotted key of params.yaml, without ``method.``

PIXELS: Values = {
    "synthesis.num_images": 5120,
    "synthesis.batch_size": 256,
    "synthesis.iterations": 1000,
    "synthesis.basis": "pixels",
    "synthesis.learning_rate": 0.5,
    "synthesis.schedule": "plateau",
    "synthesis.beta1": 0.9,
    "synthesis.beta2": 0.999,
    "synthesis.decay": 0.1,
    "synthesis.patience": 50,
    "synthesis.min_learning_rate": 1e-4,
    "synthesis.clip": False,
    "synthesis.stop": False,
}
STUDENT: Values = {
    "quantization.ranges.observer": "max",
    "quantization.ranges.average": "ema",
    "quantization.ranges.learned": False,
    "finetune.clipped_gradient": True,
    "finetune.steps_per_epoch": 200,
}
LINEAGE: Values = {
    **PIXELS,
    **STUDENT,
    "finetune.epochs": 147,
    "finetune.batch_size": 256,
    "finetune.decay_every": 20,
}
LINEAGE_IMAGENET: Values = {
    "finetune.batch_size": 16,
    "finetune.learning_rate": 1e-6,
    "finetune.decay_every": 100,
}
GENERATOR: Values = {
    **STUDENT,
    "synthesis.iterations": 800,
    "finetune.epochs": 396,
    "finetune.batch_size": 200,
    "finetune.learning_rate": 1e-4,
    "finetune.decay_every": 100,
}
GENERATOR_IMAGENET: Values = {
    "synthesis.iterations": 10_000,
    "finetune.epochs": 350,
    "finetune.batch_size": 16,
    "finetune.learning_rate": 1e-6,
}
ELEMENTWISE: Values = {"student.kd_reduction": "elementmean"}

SCHEDULES: Mapping[str, Mapping[str, Values]] = {
    "intraq": {
        "default": {**LINEAGE, "finetune.learning_rate": 1e-4},
        "imagenet": LINEAGE_IMAGENET,
    },
    "hast": {
        "default": {**LINEAGE, "finetune.learning_rate": 1e-5},
        "imagenet": LINEAGE_IMAGENET,
    },
    "synq": {"default": {**LINEAGE, "finetune.epochs": 97}, "imagenet": LINEAGE_IMAGENET},
    "gdfq": {"default": {**GENERATOR, **ELEMENTWISE}, "imagenet": GENERATOR_IMAGENET},
    "qimera": {"default": {**GENERATOR, **ELEMENTWISE}, "imagenet": GENERATOR_IMAGENET},
    "adadfq": {
        "default": {**GENERATOR, "finetune.batch_size": 16},
        "imagenet": {
            **GENERATOR_IMAGENET,
            "finetune.learning_rate": 1e-5,
            "finetune.decay_every": 300,
        },
        "imagenet-resnet50": {
            "synthesis.iterations": 20_000,
            "finetune.epochs": 300,
            "finetune.learning_rate": 1e-4,
            "finetune.decay_every": 150,
        },
        "imagenet-resnet50-w4": {"synthesis.iterations": 10_000, "finetune.epochs": 350},
        "imagenet-resnet50-w5": {
            "synthesis.iterations": 10_000,
            "finetune.epochs": 350,
            "finetune.decay_every": 300,
        },
    },
}


def schedule(method: str, preset: str) -> dict[str, Value]:
    """Return a method's published schedule for a preset's kind of data.

    Args:
        method: one of ``SCHEDULES``.
        preset: ``default``, or as ``method.preset``.
    """
    names = ["default", *beginnings(preset)]
    published = SCHEDULES[method]
    return {key: value for name in names for key, value in published.get(name, {}).items()}
