"""Values that are permitted and do something that few want: said, and not refused."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from dynadfq.data.config import CLASSES, IMAGE_FOLDER
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.graph.config import FLOAT_BITS
from dynadfq.methods import METHODS
from dynadfq.params.memory import image_shape
from dynadfq.params.rules import Rule, broken_rules
from dynadfq.params.sections import Params
from dynadfq.quant.config import QuantizationConfig
from dynadfq.quant.range_config import RangeConfig
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.quant.width_config import AllocationConfig
from dynadfq.runtime.config import Config
from dynadfq.runtime.errors import shown
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.training.config import EarlyStoppingConfig, FinetuneConfig, SelectorConfig


def unused(key: str, config: type[Config], other: str, needed: bool | str) -> Rule:
    """Return the rule on a key that has an effect only with one value of another key.

    Args:
        key: the key, which is expected to have its default otherwise.
        config: the settings that it is one of.
        other: the other key.
        needed: its value.
    """
    default = getattr(config(), key.rpartition(".")[2])
    return Rule(
        (key, other),
        lambda value, found: found == needed or value == default,
        f"the second is {needed if isinstance(needed, str) else shown(needed)}, or the first its "
        "default",
        f"{{0}} has no effect with {other}: {{1}}",
    )


def without_float(key: str, config: type[Config]) -> Rule:
    """Return the rule on a key that has no effect where activations stay float32.

    Args:
        key: the key, which is expected to have its default then.
        config: the settings that it is one of.
    """
    default = getattr(config(), key.rpartition(".")[2])
    return Rule(
        (key, "quantization.target_bits"),
        lambda value, target: target != FLOAT_BITS or value == default,
        f"the second is not {FLOAT_BITS}, or the first its default",
        f"{{0}} has no effect with quantization.target_bits: {FLOAT_BITS}",
    )


WITHOUT_FLOAT = tuple(
    without_float(f"{group}.{name}", config)
    for group, config, names in (
        ("selector", SelectorConfig, SelectorConfig.model_fields),
        ("quantization", QuantizationConfig, ("placement",)),
        ("quantization.ranges", RangeConfig, RangeConfig.model_fields),
        (
            "finetune",
            FinetuneConfig,
            ("calibration_images", "range_learning_rate", "clipped_gradient"),
        ),
        ("evaluation", EvaluationConfig, ("sensitivity_bits", "budgets")),
    )
    for name in names
)
WITHOUT_INTEGER = tuple(
    unused(f"{group}.{name}", config, "quantization.scheme", "paper")
    for group, config, names in (
        ("selector", SelectorConfig, SelectorConfig.model_fields),
        ("quantization", QuantizationConfig, ("placement",)),
        ("quantization.ranges", RangeConfig, ("per_width",)),
    )
    for name in names
)
ODDITIES = (
    *WITHOUT_FLOAT,
    *WITHOUT_INTEGER,
    Rule(
        ("quantization.target_bits", "selector.candidates", "quantization.scheme"),
        lambda target, candidates, scheme: (
            target in candidates or target == FLOAT_BITS or scheme == "integer"
        ),
        "the first is in the second, or 32, or the third is integer",
        "{0} is not one of selector.candidates: {1}; the fixed student has this width, and images "
        "of the dynamic one start at the candidate below",
    ),
    Rule(
        ("data.fingerprint", "data.name", "data.classes"),
        lambda fingerprint, name, classes: (
            fingerprint is None or name == IMAGE_FOLDER or None not in (name, classes)
        ),
        "the first is null, or the second image-folder, or the third is given",
        "{0} has no effect with data.name: {1} and data.classes: {2}",
    ),
    Rule(
        ("finetune.decay_every", "finetune.epochs", "finetune.steps"),
        lambda every, epochs, steps: every < epochs or epochs == 0 or steps is not None,
        "the first is less than the second, or the third is set",
        "{0} with finetune.epochs: {1} means that the learning rates never fall",
    ),
    Rule(
        (
            "finetune.decay_every",
            "finetune.steps",
            "finetune.steps_per_epoch",
            "finetune.batch_size",
            "synthesis.num_images",
        ),
        lambda every, steps, per_epoch, batch, images: (
            not steps or every * (per_epoch or ceil(images / batch)) < steps
        ),
        "the first, in epochs, is less than the second, unless that is null or 0",
        "{0} with finetune.steps: {1} means that the learning rates never fall",
    ),
    Rule(
        ("method.student.mixup_start", "method.student.mixup_share"),
        lambda start, share: start < 1 or share == 0,
        "the first is less than 1",
        "{0} means that no image is mixed; method.student.mixup_share: 0 says so plainly",
    ),
    Rule(
        ("method.images.superposed_classes", "data.name"),
        lambda count, data: count <= CLASSES.get(data, count),
        "the first is at most the number of classes",
        "{0} is more than the classes of data.name: {1}; an image then has some of them twice",
    ),
    Rule(
        ("selector.warm_up_images", "synthesis.num_images"),
        lambda warm_up, images: warm_up <= images,
        "the first is at most the second",
        "{0} is more than synthesis.num_images: {1}; all of these are used",
    ),
    Rule(
        ("selector.any_width", "selector.warm_up_images"),
        lambda any_width, warm_up: warm_up > 0 or not any_width,
        "the second is above 0, or the first is false",
        "{0} with selector.warm_up_images: {1} leaves the selector untrained: all images run at "
        "the target",
    ),
    Rule(
        (
            "quantization.allocation.images",
            "synthesis.num_images",
            "quantization.allocation.rule",
        ),
        lambda measured, images, rule: measured <= images or rule == "uniform",
        "the first is at most the second, or the third is uniform",
        "{0} is more than synthesis.num_images: {1}; all of these are used",
    ),
    unused("quantization.ranges.quantile", RangeConfig, "quantization.ranges.observer", "quantile"),
    *(
        unused(
            f"quantization.allocation.{name}",
            AllocationConfig,
            "quantization.allocation.rule",
            "sensitivity",
        )
        for name in ("widths", "images", "keep_size")
    ),
    unused("finetune.clipped_gradient", FinetuneConfig, "quantization.ranges.learned", False),
    unused("finetune.range_learning_rate", FinetuneConfig, "quantization.ranges.learned", True),
    *(
        unused(
            f"quantization.reconstruction.{name}",
            BlockReconstructionConfig,
            "quantization.rounding",
            "block",
        )
        for name in BlockReconstructionConfig.model_fields
    ),
    Rule(
        ("finetune.early_stopping.patience", "finetune.early_stopping.images"),
        lambda patience, images: images > 0 or patience == EarlyStoppingConfig().patience,
        "the second is above 0, or the first its default",
        "{0} has no effect with finetune.early_stopping.images: {1}",
    ),
    *(
        unused(f"selector.{name}", SelectorConfig, "selector.any_width", False)
        for name in ("learning_rate", "budget", "bit_weight")
    ),
    *(
        unused(f"synthesis.{name}", PixelOptimizerConfig, "synthesis.schedule", "plateau")
        for name in ("decay", "patience", "stop")
    ),
)


def oddities(params: Params) -> Iterator[str]:
    """Yield a line for each value that does something that few want."""
    floats = params.quantization.target_bits == FLOAT_BITS
    off: tuple[Rule, ...] = WITHOUT_FLOAT if floats else ()
    if not floats and params.quantization.scheme == "integer":
        off = WITHOUT_INTEGER
    without = {rule.keys[0] for rule in off}  # no other note on what has no effect then
    others = (rule for rule in ODDITIES if rule.keys[0] not in without)
    yield from broken_rules(params, rules=(*off, *others))
    name = params.method.name
    method = METHODS[name]
    if method.optimizes_images and params.synthesis.iterations == 0:
        yield "synthesis.iterations: 0 leaves the images as they start: noise"
    if method.trains_generator:
        yield from _pixel_settings(params)
    clipped = params.synthesis.clip or getattr(params.method.images, "clip", False)
    optimizes_pixels = method.optimizes_images and not method.trains_generator
    if params.quantization.scheme == "integer" and optimizes_pixels and not clipped:
        yield (
            "synthesis.clip: false leaves pixels outside of the range of image files, which the "
            "input's quantizer of quantization.scheme: integer cuts off; true keeps them inside"
        )
    length = "epochs" if params.finetune.steps is None else "steps"
    trains = method.trains_student and getattr(params.finetune, length) > 0
    if method.trains_student and not trains:
        yield f"finetune.{length}: 0 leaves the students as they are after calibration"
    untrained = f"finetune.{length}: 0" if method.trains_student else f"method.name: {name}"
    for key, value in (
        ("early_stopping.images", params.finetune.early_stopping.images),
        ("attention_transfer", params.finetune.attention_transfer),
    ):
        if value and not trains:
            yield (
                f"finetune.{key}: {shown(value)} has no effect with {untrained}, which trains no "
                "student"
            )
    shape = image_shape(params)
    if shape is not None:
        side = min(shape[1:])
        if params.selector.pool > side and not off:
            yield (
                f"selector.pool: {params.selector.pool} is more than the {side} pixels of an "
                "image's side; pooling then repeats values"
            )
        if params.teacher.crop_padding >= side:
            yield (
                f"teacher.crop_padding: {params.teacher.crop_padding} is no less than the {side} "
                "pixels of an image's side; some training images are then empty"
            )


def _pixel_settings(params: Params) -> Iterator[str]:
    """Yield a line for each changed setting of the pixels' optimizer, which no generator reads."""
    for name, field in PixelOptimizerConfig.model_fields.items():
        value = getattr(params.synthesis, name)
        if name != "iterations" and value != field.default:
            yield (
                f"synthesis.{name}: {shown(value)} has no effect with method.name: "
                f"{params.method.name}, which optimizes a generator and no pixels"
            )
