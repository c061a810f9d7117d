"""Constraints between keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from dynadfq.data.config import CLASSES
from dynadfq.graph.config import FLOAT_BITS
from dynadfq.params.sections import Params
from dynadfq.runtime.errors import shown


@dataclass(frozen=True)
class Rule:
    """A constraint on the values of some keys.

    keys: the keys; one that the method in use does not have makes the rule void.
    holds: whether the values are permitted.
    requirement: what is permitted, for docs/params.md.
    broken: what is wrong, said of the first key; {0}, {1} … are the values.
    """

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    requirement: str
    broken: str


RULES = (
    Rule(
        ("teacher.checkpoint", "teacher.pretrained"),
        lambda checkpoint, pretrained: checkpoint is None or not pretrained,
        "the first is null, or the second is false",
        "must be null with teacher.pretrained: true, since both choose the weights; got {0}",
    ),
    Rule(
        ("data.name", "teacher.checkpoint", "teacher.pretrained"),
        lambda data, checkpoint, pretrained: data is not None or bool(checkpoint) or pretrained,
        "where the first is null, the second is given or the third is true",
        "must name labelled data to train a teacher with; or set teacher.checkpoint to a file, or "
        "teacher.pretrained to true for published weights; got {0}",
    ),
    Rule(
        ("teacher.num_classes", "data.name"),
        lambda count, data: count is None or count == CLASSES.get(data, count),
        "the first is the number of the data set's classes, where it is known",
        "must be the number of classes of data.name: {1}, or null; got {0}",
    ),
    Rule(
        ("teacher.class_names", "teacher.num_classes"),
        lambda names, count: None in (names, count) or len(names) == count,
        "the first has a name for each class of the second",
        "must have as many names as teacher.num_classes: {1}; got {0}",
    ),
    Rule(
        ("teacher.class_names", "data.name"),
        lambda names, data: names is None or len(names) == CLASSES.get(data, len(names)),
        "the first has a name for each of the data set's classes, where these are known",
        "must have as many names as data.name: {1} has classes; got {0}",
    ),
    Rule(
        ("data.image_size", "teacher.input_shape"),
        lambda side, shape: None in (side, shape) or tuple(shape[1:]) == (side, side),
        "the first is null, or the height and width of the second",
        "must be the height and width in teacher.input_shape: {1}, or null; got {0}",
    ),
    Rule(
        ("teacher.mean", "teacher.input_shape"),
        lambda mean, shape: None in (mean, shape) or len(mean) == shape[0],
        "the first has a value for each channel of the second",
        "must have one value for each channel in teacher.input_shape: {1}; got {0}",
    ),
    Rule(
        ("teacher.std", "teacher.input_shape"),
        lambda std, shape: None in (std, shape) or len(std) == shape[0],
        "the first has a value for each channel of the second",
        "must have one value for each channel in teacher.input_shape: {1}; got {0}",
    ),
    Rule(
        ("teacher.std", "teacher.mean"),
        lambda std, mean: None in (std, mean) or len(std) == len(mean),
        "both have as many values",
        "must have as many values as teacher.mean: {1}; got {0}",
    ),
    Rule(
        ("synthesis.min_learning_rate", "synthesis.learning_rate"),
        lambda least, initial: least <= initial,
        "the first is at most the second",
        "must be at most synthesis.learning_rate: {1}; got {0}",
    ),
    Rule(
        ("method.images.similar_classes", "data.name"),
        lambda count, data: count <= CLASSES.get(data, count),
        "the first is at most the number of the data set's classes, where it is known",
        "must be at most the number of classes of data.name: {1}; got {0}",
    ),
    Rule(
        ("method.images.similar_classes", "teacher.num_classes"),
        lambda count, classes: classes is None or count <= classes,
        "the first is at most the second",
        "must be at most teacher.num_classes: {1}; got {0}",
    ),
    Rule(
        ("method.images.margin_low", "method.images.margin_high"),
        lambda low, high: low <= high,
        "the first is at most the second (intraq)",
        "must be at most method.images.margin_high: {1}; got {0}",
    ),
    Rule(
        ("method.student.lower_margin", "method.student.upper_margin"),
        lambda low, high: low <= high,
        "the first is at most the second (adadfq)",
        "must be at most method.student.upper_margin: {1}; got {0}",
    ),
    Rule(
        ("method.images.data", "data.name"),
        lambda labelled, data: labelled == data and data is not None,
        "both name the same labelled data set (real_data)",
        "must name the labelled data set that this method reads, and be data.name: {1}; got {0}",
    ),
    *(
        Rule(
            (f"method.images.{name}", f"data.{name}", "method.images.data"),
            lambda own, whole, labelled: labelled is None or own == whole,
            "the first is the same as the second (real_data)",
            f"must be data.{name}: {{1}}; got {{0}}",
        )
        for name in ("root", "classes", "fingerprint")
    ),
    Rule(
        ("quantization.target_bits", "selector.candidates", "quantization.scheme"),
        lambda target, candidates, scheme: (
            scheme == "integer" or target == FLOAT_BITS or candidates[0] <= target <= candidates[-1]
        ),
        "the first is within the second, or 32, or the third is integer",
        "must be within selector.candidates: {1}; got {0}",
    ),
    Rule(
        ("quantization.target_bits", "quantization.scheme"),
        lambda target, scheme: target != FLOAT_BITS or scheme != "integer",
        "the first is 32 only where the second is paper",
        "must be in 2 … 8 with quantization.scheme: integer, whose engines compute in integers; "
        "float activations need scheme: paper; got {0}",
    ),
    Rule(
        (
            "quantization.allocation.widths",
            "quantization.weight_bits",
            "quantization.target_bits",
            "quantization.allocation.rule",
        ),
        lambda widths, weights, target, rule: (
            rule == "uniform" or widths[0] <= min(weights, target)
        ),
        "the first begins at or below the two after it, or the last is uniform",
        "must begin at or below weight_bits and target_bits, whose bit-FLOPs are the budget: "
        "{1} and {2}; got {0}",
    ),
    Rule(
        ("export.formats", "quantization.scheme"),
        lambda formats, scheme: "qdq" not in formats or scheme == "integer",
        "the first contains qdq only where the second is integer",
        "may contain qdq only with quantization.scheme: integer; got {0}",
    ),
    Rule(
        ("finetune.calibration_images", "synthesis.num_images"),
        lambda calibration, images: calibration <= images,
        "the first is at most the second",
        "must be at most synthesis.num_images: {1}; got {0}",
    ),
    Rule(
        (
            "finetune.early_stopping.images",
            "synthesis.num_images",
            "finetune.calibration_images",
        ),
        lambda held_back, images, calibration: held_back == 0 or held_back + calibration <= images,
        "the first is 0, or at most the second less the third",
        "must leave the {2} images of finetune.calibration_images, of synthesis.num_images: {1}; "
        "got {0}",
    ),
    Rule(
        ("finetune.batch_size", "launch.processes"),
        lambda batch, processes: batch % processes == 0,
        "the first is a multiple of the second",
        "must be a multiple of launch.processes: {1}; got {0}",
    ),
    Rule(
        ("method.student.online_generator", "launch.processes"),
        lambda online, processes: not online or processes == 1,
        "the first is false where the second is more than 1",
        "must be false, since the generator is trained in one process, and launch.processes is "
        "{1}; got {0}",
    ),
)


def lookup(params: object, key: str, *default: Any) -> Any:
    """Return the value of a dotted key.

    Raises:
        AttributeError: there is no such key, and no default.
    """
    try:
        return reduce(getattr, key.split("."), params)
    except AttributeError:
        if not default:
            raise
        return default[0]


def broken_rules(
    params: Params, doubtful: Collection[str] = (), rules: Sequence[Rule] = RULES
) -> Iterator[str]:
    """Yield a line for each constraint that does not hold.

    Args:
        params: the parameters.
        doubtful: keys and groups whose values are wrong; rules on them are left out.
        rules: the constraints.
    """
    for rule in rules:
        if any(f"{key}.".startswith(f"{other}.") for key in rule.keys for other in doubtful):
            continue
        try:
            values = [lookup(params, key) for key in rule.keys]
        except AttributeError:  # a hyperparameter of another method
            continue
        if not rule.holds(*values):
            yield f"{rule.keys[0]}: {rule.broken.format(*map(shown, values))}"
