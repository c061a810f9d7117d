"""Parameters of a cell: the base file with overrides, checked, and the part of them that the cell's
stage may see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.description import Width
from dynadfq.methods import METHODS, Methods
from dynadfq.params import Params, StageParams
from dynadfq.params.declared import Key, declared_keys
from dynadfq.params.errors import nearest_key
from dynadfq.params.loading import check
from dynadfq.params.rules import lookup
from dynadfq.runtime.errors import did_you_mean

Document = dict[str, Any]

# Which stage of the pipeline a key matters to; `images` and `student` stand for groups of the
# method in use.
IMAGE_GROUPS = ("images", "synthesis")
STUDENT_GROUPS = ("student", "quantization", "selector", "finetune")
METHOD_GROUPS = ("images", "student")


def placed(key: str, method: str) -> str:
    """A dotted key as it stands in params.yaml.

    >>> placed("images.class_weight", "zeroq"), placed("finetune.epochs", "zeroq")
    ('method.zeroq.images.class_weight', 'finetune.epochs')
    """
    return f"method.{method}.{key}" if key.split(".")[0] in METHOD_GROUPS else key


def overridden(document: Document, overrides: Mapping[str, Any], method: str = "") -> Document:
    """A copy of a parameter file's content with dotted keys replaced, or added, which `checked`
    then reports.
    """
    result = deepcopy(document)
    for key, value in overrides.items():
        group = result
        *parents, last = placed(key, method).split(".")
        for name in parents:
            group = group.setdefault(name, {})
        group[last] = value
    return result


def widths(width: Width) -> dict[str, Any]:
    """What a width sets; a fixed student has candidates too, which it does not see."""
    low = min(width.target_bits, 7)
    return {
        "quantization.weight_bits": width.weight_bits,
        "quantization.target_bits": width.target_bits,
        "selector.candidates": list(width.candidates or (low, low + 1)),
    }


def checked(document: Document) -> tuple[Params, tuple[str, ...]]:
    """Typed parameters and all that is wrong; equal documents are checked once."""
    return _checked(json.dumps(document, sort_keys=True))


@cache
def _checked(text: str) -> tuple[Params, tuple[str, ...]]:
    params, problems = check(json.loads(text))
    return params, tuple(problems)


def unknown_method(name: str) -> str | None:
    """What is said of a method that does not exist."""
    if name in METHODS:
        return None
    return f'"{name}" is not one of {", ".join(METHODS)}{did_you_mean(name, list(METHODS))}'


def misplaced(key: str, groups: tuple[str, ...]) -> str | None:
    """What is said of a key that does not belong to a part of the grid."""
    if key.split(".")[0] in groups:
        return None
    nearest = nearest_key(tuple(key.split(".")))
    return f"{key}: only keys of {', '.join(groups)} make a difference here; {nearest}"


def effective(params: Params, key: str, method: str) -> Any:
    """A key's value, as it would be written in YAML."""
    value = lookup(params, placed(key, method))
    return list(value) if isinstance(value, tuple) else value


def seen_by(stage: str, params: Params) -> Document:
    """What a stage of the pipeline declares in ``dvc.yaml``."""
    return StageParams(stage, params, _declared(stage, params.method.name)).as_dict()


def stage_params(stage: str, seen: Document) -> StageParams:
    """The parameters that a stage is given, from what `seen_by` returned; no others can be read."""
    params = Params.model_validate(seen)
    return StageParams(stage, params, _declared(stage, params.method.name))


@cache
def _declared(stage: str, method: str) -> frozenset[Key]:
    """The declared keys of a stage, which depend on the method in use alone; ``dvc.yaml`` takes a
    while to read.
    """
    return declared_keys(
        stage,
        Params.model_construct(method=Methods.model_construct(name=method)),
        Path("params.yaml"),
    )
