"""Errors that a user can act on: they name the argument, show its value and say what is allowed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

LONGEST = 200  # characters of a value in an error


class InvalidArgument(ValueError):
    """A wrong value of an argument, a parameter or a setting.

    Args:
        argument: Python's name of it; a stage adds the group of params.yaml.
        problem: what is wrong, such as "must be in 2 … 8; got 16".
    """

    def __init__(self, argument: str, problem: str) -> None:
        self.argument = argument
        self.problem = problem
        super().__init__(f"{argument}: {problem}")


def require_choice(argument: str, value: object, choices: Iterable[str]) -> None:
    """Check a name that a caller gave.

    Raises:
        InvalidArgument: it is not one of ``choices``.
    """
    names = list(choices)
    if value not in names:
        near = did_you_mean(value, names)
        raise InvalidArgument(
            argument, f"must be one of {', '.join(names)}; got {shown(value)}{near}"
        )


def dotted(location: Iterable[int | str]) -> str:
    """Return a place in nested settings as one writes it.

    >>> dotted(("selector", "candidates", 1))
    'selector.candidates[1]'
    """
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """Return a value as it stands in a file: ``true``, ``null``, ``"text"``, ``[3, 4, 5]``.

    Long values are cut.
    """
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean …?`` with the nearest known name, or an empty string.

    >>> did_you_mean("zeroQ", ["dynadfq", "zeroq"])
    '; did you mean zeroq?'
    """
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def typed_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    name = type(error).__name__
    return f"{name}: {first_line(error)}" if str(error).strip() else name
