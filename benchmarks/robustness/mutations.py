"""Experiments with one setting changed, drawn from the declarations of the settings."""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from dynadfq.methods import METHODS
from dynadfq.params.sections import params_of
from dynadfq.runtime.config import choices, leaves

HUGE = 10**18
TEXTS = ("", "x", "no/such/file", "two words", "x" * 10_000, "é\n", "my_pkg.models:build")
WRONG_TYPES: tuple[Any, ...] = ([], {}, {"no": "value"}, [[1]], "text", True, None, 3, 0.5)
SLOW = 64  # a larger whole number is not tried: it may be a count of steps
# Settings whose other values need a network, train the teacher for long, or learn roundings.
EXPENSIVE = (
    "data.name",
    "quantization.rounding",
    "teacher.architecture",
    "teacher.batch_size",
    "teacher.checkpoint",
    "teacher.epochs",
    "teacher.pretrained",
)


class Mutation(NamedTuple):
    """One setting of one method's experiment, changed."""

    method: str
    key: str
    value: Any

    @property
    def affordable(self) -> bool:
        """Whether an experiment with it takes seconds, and needs neither network nor GPU."""
        if self.key in EXPENSIVE or (self.key == "data.image_size" and self.value not in (None, 8)):
            return False
        numbers = self.value if isinstance(self.value, list) else [self.value]
        return not any(isinstance(number, int) and number > SLOW for number in numbers)


def mutations(count: int, seed: int) -> list[Mutation]:
    """Draw some settings of some methods, and for each a value that its declaration suggests."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        method = rng.choice(list(METHODS))
        key, field = rng.choice([leaf for leaf in leaves(params_of(method)) if usable(leaf[0])])
        found.append(Mutation(method, key, rng.choice(values(field))))
    return found


def usable(key: str) -> bool:
    """Return whether a setting is changed: not the method's own name, and not the launcher."""
    return key != "method.name" and not key.startswith("launch.")


def values(field: FieldInfo) -> list[Any]:
    """Return values of the right type, at the bounds, beyond them, and of wrong types."""
    kinds = get_args(field.annotation)
    kind = next((one for one in kinds if one is not type(None)), field.annotation)
    if get_origin(kind) is tuple or get_origin(field.annotation) is tuple:
        found = lists(field)
    elif names := choices(field):
        found = [*names, "other"]
    elif bool in (kind, field.annotation):
        found = [True, False, "yes", 1]
    elif int in (kind, field.annotation):
        found = whole_numbers(field)
    elif float in (kind, field.annotation):
        found = numbers(field)
    else:
        found = list(TEXTS)
    return [*found, *found, random.Random(len(found)).choice(WRONG_TYPES)]


def bounds(field: FieldInfo) -> list[float]:
    """Return the numbers that bound a setting."""
    names = ("ge", "gt", "le", "lt")
    return [getattr(one, name) for one in field.metadata for name in names if hasattr(one, name)]


def whole_numbers(field: FieldInfo) -> list[int]:
    """Return whole numbers around a setting's bounds, small ones and enormous ones."""
    edges = [int(bound) for bound in bounds(field)]
    near = [edge + step for edge in edges for step in (-1, 0, 1)]
    return [*near, 0, 1, 2, 3, -1, HUGE, 10**80, -HUGE]


def numbers(field: FieldInfo) -> list[float]:
    """Return numbers around a setting's bounds, tiny ones, enormous ones and none."""
    edges = [float(bound) for bound in bounds(field)]
    near = [edge * factor for edge in edges for factor in (0.999, 1.0, 1.001)]
    return [*near, 0.0, 0.5, 1.0, 5e-324, 1e-9, 1e300, -1.0, math.inf, math.nan]


def lists(field: FieldInfo) -> list[Any]:
    """Return lists of another length, order or content than a setting's."""
    names = choices(field)
    some: list[Any] = list(names) or [3, 5]
    return [[], some[:1], some, some[::-1], some * 2, [*some, HUGE], [0.5], [0.5, 0.5, 0.5], [2, 8]]
