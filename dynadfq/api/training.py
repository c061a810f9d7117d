"""Fine-tuning of a student on synthetic images."""

from __future__ import annotations

from typing import Any, get_args

import pandas as pd

from dynadfq.api.arguments import METHOD, of_method_and_others, require_teacher, settings_of
from dynadfq.losses.config import Form
from dynadfq.ops.config import PrecisionChoice
from dynadfq.ops.precision import finetuning_precision
from dynadfq.quant.config import (
    QuantizationConfig,
    Rounding,
)
from dynadfq.quant.model import Student
from dynadfq.quant.range_config import RangeConfig, RangeRule
from dynadfq.runtime.errors import InvalidArgument, require_choice, shown
from dynadfq.runtime.numbers import seed_number
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorConfig
from dynadfq.training.prepare import is_made_from, transformed
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.train import train_student

# The defaults of the arguments are those of the settings.
QUANTIZATION = QuantizationConfig()
SELECTOR = SelectorConfig()
FINETUNE = FinetuneConfig()


def finetune(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    epochs: int = FINETUNE.epochs,
    steps: int | None = FINETUNE.steps,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    range_learning_rate: float = FINETUNE.range_learning_rate,
    selector_learning_rate: float = SELECTOR.learning_rate,
    decay: float = FINETUNE.decay,
    decay_every: int = FINETUNE.decay_every,
    max_gradient_norm: float = FINETUNE.max_gradient_norm,
    method: str = METHOD,
    budget: Form = SELECTOR.budget,
    bit_weight: float = SELECTOR.bit_weight,
    ranges: str | None = None,
    rounding: Rounding = QUANTIZATION.rounding,
    calibration_images: int = FINETUNE.calibration_images,
    warm_up_images: int = SELECTOR.warm_up_images,
    any_width: bool = SELECTOR.any_width,
    seed: int = 0,
    schedule: FinetuneConfig | None = None,
    precision: PrecisionChoice = "float32",
    **hyperparameters: Any,
) -> pd.DataFrame:
    """Calibrate a student's ranges and fine-tune it in place on synthetic images.

    An epoch is one pass over the images. The defaults are the paper's; its step counts for CIFAR
    and ImageNet stand in ``configs/``.

    ``batch_size``, ``learning_rate`` and ``ranges`` are the method's own settings where its student
    has settings of these names: the first two of "adaround", the third of "dfq". None is the
    default.

    Args:
        student: what ``quantize`` returned.
        teacher: the float network that it was made from.
        images: what it learns from.
        epochs: length of the training, in passes over the images; 0 only calibrates.
        steps: length of the training in steps, in place of ``epochs``.
        batch_size: images per step.
        learning_rate: initial learning rate of the weights.
        range_learning_rate: that of the activation ranges.
        selector_learning_rate: that of the bit selector.
        decay: factor on every learning rate after each ``decay_every`` epochs.
        decay_every: epochs between decays.
        max_gradient_norm: maximum norm of the weights' gradient; a larger gradient is scaled down
            to it; 0 is no limit.
        method: what it learns.
        budget: how the bit-FLOPs target binds, "penalty" or "constraint".
        bit_weight: weight of the penalty.
        ranges: how calibration sets the activation ranges, such as "mse".
        rounding: how weights are rounded before the first step: "nearest", "squant", "adaround",
            "block".
        calibration_images: images that set the activation ranges.
        warm_up_images: images of the selector's warm-up; 0 is off.
        any_width: whether images learn at widths that are drawn, so that the student serves any of
            them; the selector's warm-up then comes last, and ``selector_learning_rate``, ``budget``
            and ``bit_weight`` have no effect.
        seed: the same seed gives the same student.
        schedule: all settings of fine-tuning, augmentation among them, in place of the arguments
            of these names.
        precision: of convolutions and linear layers in the steps: "float32", "bfloat16", or on a
            GPU "tf32"; "auto" is "float32".
        hyperparameters: the method's settings for the student, such as ``mixup_share=0.25``.

    Returns:
        The history, one row per epoch.

    Raises:
        InvalidArgument: an argument or a hyperparameter is unknown or wrong.
    """
    require_teacher(teacher)
    if not isinstance(student, Student):
        raise InvalidArgument(
            "student", f"must be what quantize returns; got {type(student).__name__}"
        )
    seed = seed_number(seed)
    products = finetuning_precision(precision, teacher.device)
    own, shared = of_method_and_others(
        method,
        "student",
        {"batch_size": batch_size, "learning_rate": learning_rate, "ranges": ranges},
    )
    settings = settings_of(finetune, method, "student", {**hyperparameters, **own})
    recipe: StudentRecipe = settings.recipe()
    if recipe.transforms and not is_made_from(student, transformed(teacher, recipe)):
        made = ", ".join(f"{name}: {shown(value)}" for name, value in settings)
        raise InvalidArgument(
            "student",
            f"its weights are not those that method {method} quantizes with {made}; make the "
            "student with the same hyperparameters, and fine-tune it once",
        )
    observer = shared.pop("ranges", QUANTIZATION.ranges.observer)
    require_choice("ranges", observer, get_args(RangeRule))
    config = _schedule(
        schedule,
        epochs=epochs,
        steps=steps,
        range_learning_rate=range_learning_rate,
        decay=decay,
        decay_every=decay_every,
        max_gradient_norm=max_gradient_norm,
        calibration_images=calibration_images,
        **shared,
    )
    selector = _selector(
        student,
        selector_learning_rate=selector_learning_rate,
        budget=budget,
        bit_weight=bit_weight,
        warm_up_images=warm_up_images,
        any_width=any_width,
    )
    quantization = QuantizationConfig(rounding=rounding, ranges=RangeConfig(observer=observer))
    return train_student(
        student,
        teacher,
        images,
        recipe,
        quantization,
        config,
        selector,
        seed,
        products,
        Scratch(None),
        method,
        data_free=None,  # the images may be anyone's, labelled ones too
    )


def _schedule(schedule: FinetuneConfig | None, **given: Any) -> FinetuneConfig:
    """Return the schedule, or one with the given settings."""
    if schedule is None:
        return FinetuneConfig(**given)
    for name, value in given.items():
        if value != getattr(FINETUNE, name):
            raise InvalidArgument(
                name, f"{shown(value)} is given beside schedule; set it in schedule alone"
            )
    return schedule


def _selector(student: Student, **arguments: Any) -> SelectorConfig:
    """Return how the student's selector is trained; a student without one has the defaults."""
    given = {name.removeprefix("selector_"): value for name, value in arguments.items()}
    settings = SelectorConfig(**given)
    if not student.scheme.dynamic:
        for name, value in arguments.items():
            if value != getattr(SELECTOR, name.removeprefix("selector_")):
                raise InvalidArgument(
                    name,
                    f"the student has one width, {student.scheme.activation_bits[0]} bits, and no "
                    f"selector that {shown(value)} would be for; leave it out, or make the student "
                    "with several activation_bits",
                )
    return settings
