"""``params.yaml`` to ``Params``, or every problem at once."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dynadfq.methods import METHODS
from dynadfq.params.errors import Location, ParameterError, line_of
from dynadfq.params.files import missing_files
from dynadfq.params.memory import too_large, total_memory
from dynadfq.params.oddities import oddities
from dynadfq.params.rules import broken_rules
from dynadfq.params.sections import METHOD, PARTS, MethodParams, Params, params_of
from dynadfq.params.yaml12 import read_yaml
from dynadfq.runtime.config import Config, is_config
from dynadfq.runtime.errors import dotted, shown


def read(path: str | Path = "params.yaml") -> Params:
    """Return the whole file, checked. A setting that is left out has its default.

    Raises:
        ParameterError: with all that is wrong: missing groups, unknown keys, wrong values,
            constraints between keys.
    """
    content = read_yaml(path, missing=_remedy(Path(path)))
    document = {} if content is None else content
    params, problems = check(document)
    problems += missing_keys(document, Params)
    problems += too_large(params, total_memory())
    if problems:
        raise ParameterError(path, problems)
    return params


def _remedy(path: Path) -> str:
    """What to do where there is no such parameter file."""
    if path.name != "params.yaml":
        return "write the path of one that does"
    if (path.parent / "configs").is_dir():
        return "python -m dynadfq.params use digits makes one"
    return "dynadfq init DIR makes a project that has one"


def examine(path: str | Path, root: Path) -> list[str]:
    """Check a whole experiment before anything runs, and return what is odd about it, a line each.

    Args:
        path: the parameter file.
        root: the folder in which the file's relative paths start.

    Raises:
        ParameterError: as ``read``; or files that the parameters name do not exist.
    """
    params = read(path)
    if missing := list(missing_files(params, root)):
        raise ParameterError(path, missing)
    return list(oddities(params))


def check(document: object) -> tuple[Params, list[str]]:
    """Return what is right in a file's content, and a line for each thing that is wrong."""
    method, document = with_preset(document)
    kind = params_of(method)
    try:
        params = kind.model_validate(document)
    except ValidationError as error:
        errors = _causes(error.errors(include_url=False))
    else:
        return params, list(broken_rules(params))
    # What remains after the wrong values is checked too, so that one run shows every problem.
    doubtful = {dotted(_setting(item["loc"])) for item in errors}
    params = kind.model_validate(_without(document, [item["loc"] for item in errors]))
    problems = [line_of(item, kind) for item in errors]
    return params, [*problems, *broken_rules(params, doubtful)]


def with_preset(document: object) -> tuple[str, object]:
    """Return the method in use, and the content with its preset's values where it has none.

    An unknown method, which ``check`` reports, is left without hyperparameters.
    """
    group = document.get("method") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(group, dict):
        return METHOD, document
    name = group.get("name", METHOD)
    if not isinstance(name, str) or name not in METHODS:
        rest = {key: value for key, value in group.items() if key not in PARTS}
        return METHOD, {**document, "method": rest}
    preset = METHODS[name].preset(str(group.get("preset")))
    own = {part: group.get(part, {}) for part in preset}
    merged = {
        part: {**preset[part], **values} for part, values in own.items() if isinstance(values, dict)
    }
    return name, {**document, "method": {**group, **merged}}


def missing_keys(document: object, section: type[Config], prefix: str = "") -> list[str]:
    """Return a line for each key that DVC follows and the file does not have."""
    if not isinstance(document, dict):
        return []
    lines = []
    for name, field in section.model_fields.items():
        if name == "method":
            lines += missing_keys(document.get(name, {}), MethodParams, "method.")
        elif name not in document and name != "launch":
            value = "{}" if is_config(field.annotation) else shown(field.default)
            lines.append(f"{prefix}{name}: missing, and DVC needs it; write `{name}: {value}`")
    return lines


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out the errors of a list that only follow from those of its elements."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error in errors
        if not any(
            error["loc"] == place[:-1] and isinstance(place[-1], int) for place in places if place
        )
    ]


def _setting(location: Location) -> Location:
    """Return a location without the index of a list's element."""
    return location[:-1] if location and isinstance(location[-1], int) else location


def _without(document: object, locations: Iterable[Location]) -> object:
    """Return a copy of the content less the settings at some locations."""
    rest: Any = deepcopy(document)
    for location in map(_setting, locations):
        if not location:
            return {}
        group = rest
        for part in location[:-1]:
            group = group.get(part, {}) if isinstance(group, dict) else {}
        if isinstance(group, dict):
            group.pop(location[-1], None)
    return rest
