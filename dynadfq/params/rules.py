"""Constraints between keys."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

from dynadfq.data.config import CLASSES
from dynadfq.methods import METHODS
from dynadfq.params.sections import Params
from dynadfq.runtime.errors import shown


@dataclass(frozen=True)
class Rule:
    """What the values of some keys owe each other, in words, and what is said of the first when
    they do not.
    """

    keys: tuple[str, ...]
    holds: Callable[..., bool]
    requirement: str
    broken: str


def _weights_once(checkpoint: str | None, pretrained: bool) -> bool:
    return checkpoint is None or not pretrained


def _weights_or_labels(data: str | None, checkpoint: str | None, pretrained: bool) -> bool:
    return data is not None or checkpoint is not None or pretrained


def _within_classes(count: int, data: str | None) -> bool:
    return data not in CLASSES or count <= CLASSES[data]


def _within(width: int, candidates: tuple[int, ...]) -> bool:
    return min(candidates) <= width <= max(candidates)


def _none_or_same(labelled: str | None, data: str | None) -> bool:
    return labelled in (None, data)


def _same_where_read(own: str | None, theirs: str | None, labelled: str | None) -> bool:
    return labelled is None or own == theirs


def _named_where_used(method: str, labelled: str | None) -> bool:
    return method != "real_data" or labelled is not None


def _divides(batch: int, processes: int) -> bool:
    return batch % processes == 0


def _alone(live: bool, method: str, processes: int, *, of: str) -> bool:
    return not live or method != of or processes == 1


# fmt: off
RULES = (
    Rule(("teacher.checkpoint", "teacher.pretrained"), _weights_once,
         "the first null, or the second false", "and teacher.pretrained: {1} both choose the weights; keep one"),
    Rule(("data.name", "teacher.checkpoint", "teacher.pretrained"), _weights_or_labels,
         "where the first is null the second is given or the third true",
         "names no labelled data to train a teacher with; give teacher.checkpoint a file, or take published weights "
         "with teacher.pretrained: true"),
    Rule(("synthesis.min_learning_rate", "synthesis.learning_rate"), operator.le,
         "the first at most the second", "is above synthesis.learning_rate: {1}"),
    Rule(("method.dynadfq.images.similar_classes", "data.name"), _within_classes,
         "at most as many as the data set has classes, where these are known",
         "is more than the classes of data.name: {1}"),
    Rule(("method.real_data.images.data", "data.name"), _none_or_same,
         "the first null, or the same as the second", "is not data.name: {1}"),
    Rule(("method.real_data.images.classes", "data.classes", "method.real_data.images.data"), _same_where_read,
         "the first the same as the second where the third is given", "is not data.classes: {1}"),
    Rule(("method.name", "method.real_data.images.data"), _named_where_used,
         "the second names the labelled data set where the first is real_data",
         "reads labelled data, but method.real_data.images.data: {1} names none"),
    Rule(("quantization.target_bits", "selector.candidates"), _within,
         "the first within the second", "is outside selector.candidates: {1}"),
    Rule(("finetune.calibration_images", "synthesis.num_images"), operator.le,
         "the first at most the second", "is more than synthesis.num_images: {1}"),
    Rule(("finetune.batch_size", "launch.processes"), _divides,
         "the first a multiple of the second", "cannot be divided evenly among launch.processes: {1}"),
    *(Rule((f"method.{name}.student.online_generator", "method.name", "launch.processes"), partial(_alone, of=name),
           f"not true where the second is {name} and the third more than 1",
           "lets a generator learn on beside the student, in one process only, and launch.processes is {2}")
      for name, kind in METHODS.items() if kind.trains_generator),
)
# fmt: on


def lookup(params: object, key: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, key.split("."), params)


def broken_rules(params: Params, doubtful: Collection[str] = ()) -> Iterator[str]:
    """A line for each constraint that does not hold, leaving out those that touch a ``doubtful``
    key or group.
    """
    for rule in RULES:
        if any(f"{key}.".startswith(f"{other}.") for key in rule.keys for other in doubtful):
            continue
        values = [lookup(params, key) for key in rule.keys]
        if not rule.holds(*values):
            words = [shown(value) for value in values]
            yield f"{rule.keys[0]}: {words[0]} {rule.broken.format(*words)}"
