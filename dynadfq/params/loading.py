"""``params.yaml`` to ``Params``, or every problem at once."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dynadfq.params.errors import Location, ParameterError, line_of
from dynadfq.params.rules import broken_rules
from dynadfq.params.sections import Params
from dynadfq.params.yaml12 import read_yaml
from dynadfq.runtime.errors import dotted


def read(path: str | Path = "params.yaml") -> Params:
    """The whole file, checked. A key that is left out has its default.

    Raises:
        ParameterError: with all that is wrong: unknown keys, wrong values, keys given twice,
            constraints between keys.
    """
    content, repeated = read_yaml(path, missing="cp configs/digits.yaml params.yaml makes one")
    params, problems = check({} if content is None else content)
    if repeated or problems:
        raise ParameterError(path, [*repeated, *problems])
    return params


def check(document: object) -> tuple[Params, list[str]]:
    """What is right in a file's content, and a line for each thing that is wrong."""
    try:
        params, problems, doubtful = Params.model_validate(document), list[str](), set[str]()
    except ValidationError as error:
        errors = _causes(error.errors(include_url=False))
        problems = list(map(line_of, errors))
        # What remains after the wrong values is checked too, so that one run shows every problem.
        doubtful = {dotted(_settings(item["loc"])) for item in errors}
        params = Params.model_validate(_without(document, [item["loc"] for item in errors]))
    return params, [*problems, *broken_rules(params, doubtful)]


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out the errors of a list that only follow from those of its elements ("too short")."""
    places = [error["loc"] for error in errors]
    return [
        e
        for e in errors
        if not any(p[: len(e["loc"])] == e["loc"] and len(p) > len(e["loc"]) for p in places)
    ]


def _settings(location: Location) -> Location:
    """A location without the index of a list's element."""
    return location[:-1] if location and isinstance(location[-1], int) else location


def _without(document: object, locations: Iterable[Location]) -> object:
    """A copy of the file's content less the settings at some locations."""
    rest = deepcopy(document)
    for location in map(_settings, locations):
        if not location:
            return {}
        group = rest
        for part in location[:-1]:
            group = group.get(part, {}) if isinstance(group, dict) else {}
        if isinstance(group, dict):
            group.pop(location[-1], None)
    return rest
