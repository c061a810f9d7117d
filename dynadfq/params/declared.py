"""The parameters that a stage declares under ``params:`` in ``dvc.yaml``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dynadfq.params.errors import ParameterError
from dynadfq.params.sections import Params
from dynadfq.params.yaml12 import read_yaml
from dynadfq.runtime.config import Config

Key = tuple[str, ...]


def declared_keys(stage: str, params: Params, path: Path) -> frozenset[Key]:
    """The declared keys and groups of a stage, with ``${method.name}`` replaced as DVC does.

    Raises:
        ParameterError: there is no such stage, or it declares what is not a parameter.
    """
    graph = path.with_name("dvc.yaml")
    content, problems = read_yaml(graph, missing="it declares what each stage may read")
    stages: dict[str, Any] = (content.get("stages") if isinstance(content, dict) else None) or {}
    if stage not in stages:
        near = difflib.get_close_matches(stage, stages, n=1) or list(stages)
        raise ParameterError(
            graph, [*problems, f"stages.{stage}: no such stage; did you mean {' or '.join(near)}?"]
        )
    definition = stages[stage].get(
        "do", stages[stage]
    )  # `do` holds the stage where it is repeated by `foreach`
    declared = {
        _interpolated(key, params) for key in _keys(definition.get("params", ()), path.name)
    }
    unknown = sorted(key for key in declared if not _exists(params, key.split(".")))
    problems += [f"stages.{stage}.params: `{key}` is not a parameter" for key in unknown]
    if problems:
        raise ParameterError(graph, problems)
    return frozenset(tuple(key.split(".")) for key in declared)


def _keys(entries: list[str | dict[str, Any]], file: str) -> Iterator[str]:
    """What the entries declare of one file: ``- key``, ``- file: [keys]``, or all of it with ``-
    file:``.
    """
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif file in entry:
            yield from entry[file] or Params.model_fields


def _interpolated(key: str, params: Params) -> str:
    """Replace ``${key}`` by the value of a parameter; what is not a parameter stays and is reported
    as unknown.
    """

    def value(match: re.Match[str]) -> str:
        found = _value(params, match[1].split("."))
        return match[0] if found is None else str(found)

    return re.sub(r"\$\{\s*([\w.]+)\s*\}", value, key)


def _exists(params: Config, key: list[str]) -> bool:
    parent = _value(params, key[:-1])
    return isinstance(parent, Config) and key[-1] in type(parent).model_fields


def _value(params: Config, key: list[str]) -> object:
    """The value of a dotted key, None where there is none."""
    value: object = params
    for name in key:
        value = (
            getattr(value, name)
            if isinstance(value, Config) and name in type(value).model_fields
            else None
        )
    return value
