"""Parameters of a cell: the base file with overrides, checked, and the part of them that the cell's
stage may see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from benchmarks.description import Width
from dynadfq.methods import METHODS
from dynadfq.params import Params
from dynadfq.params.errors import nearest_key
from dynadfq.params.loading import check
from dynadfq.params.rules import lookup
from dynadfq.params.view import V, View, narrow
from dynadfq.runtime.errors import did_you_mean

Document = dict[str, Any]

# Which stage of the pipeline a key matters to; `images` and `student` stand for groups of the
# method in use.
IMAGE_GROUPS = ("images", "synthesis")
STUDENT_GROUPS = ("student", "quantization", "selector", "finetune")
METHOD_GROUPS = ("images", "student")


def placed(key: str) -> str:
    """Return a dotted key as it stands in params.yaml.

    >>> placed("images.class_weight"), placed("finetune.epochs")
    ('method.images.class_weight', 'finetune.epochs')
    """
    return f"method.{key}" if key.split(".")[0] in METHOD_GROUPS else key


def overridden(document: Document, overrides: Mapping[str, Any]) -> Document:
    """Return a copy of a parameter file's content with dotted keys replaced, or added, which
    `checked` then reports.
    """
    result = deepcopy(document)
    for key, value in overrides.items():
        group = result
        *parents, last = placed(key).split(".")
        for name in parents:
            group = group.setdefault(name, {})
        group[last] = value
    return result


def widths(width: Width) -> dict[str, Any]:
    """Return the settings of a bit-width; a fixed student has candidates too, which it does not
    read.
    """
    low = min(width.target_bits, 7)
    return {
        "quantization.weight_bits": width.weight_bits,
        "quantization.target_bits": width.target_bits,
        "selector.candidates": list(width.candidates or (low, low + 1)),
    }


def checked(document: Document) -> tuple[Params, tuple[str, ...]]:
    """Return typed parameters and all errors; equal documents are checked once."""
    return _checked(json.dumps(document, sort_keys=True))


@cache
def _checked(text: str) -> tuple[Params, tuple[str, ...]]:
    params, problems = check(json.loads(text))
    return params, tuple(problems)


def unknown_method(name: str) -> str | None:
    """Return the error about a method that does not exist."""
    if name in METHODS:
        return None
    return f'"{name}" is not one of {", ".join(METHODS)}{did_you_mean(name, list(METHODS))}'


def misplaced(key: str, groups: tuple[str, ...]) -> str | None:
    """Return the error about a key that does not belong to a part of the grid."""
    if key.split(".")[0] in groups:
        return None
    nearest = nearest_key(tuple(key.split(".")))
    return f"{key}: only keys of {', '.join(groups)} make a difference here; {nearest}"


def effective(params: Params, key: str) -> Any:
    """Return a key's value, as it would be written in YAML."""
    value = lookup(params, placed(key))
    return list(value) if isinstance(value, tuple) else value


def seen_by(view: type[View], params: Params) -> Document:
    """Return what a stage sees, as it would be written in YAML."""
    seen: Document = narrow(params, view).model_dump(mode="json")
    return seen


def stage_params(view: type[V], seen: Document) -> V:
    """Return the parameters that a stage is given, from what `seen_by` returned."""
    params, _ = check(seen)
    return narrow(params, view)
