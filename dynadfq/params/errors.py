"""What is wrong with a parameter file, in the user's own keys and with the way out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from itertools import takewhile
from os import PathLike

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dynadfq.params.sections import Params
from dynadfq.runtime.config import allowed, choices, leaves, note

Location = tuple[int | str, ...]

BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}


class ParameterError(ValueError):
    """Every problem of a file at once, a line each; also as ``problems``."""

    def __init__(self, path: str | PathLike[str], problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{path} has {count}:", *self.problems]))


def dotted(location: Iterable[int | str]) -> str:
    """A place in the file as one writes it.

    >>> dotted(("quantization", "activation_bits", 1))
    'quantization.activation_bits[1]'
    """
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in location
    ).removeprefix(".")


def shown(value: object) -> str:
    """A value as it stands in the file: ``true``, ``null``, ``"text"``, ``[3, 4, 5]``."""
    return json.dumps(value, ensure_ascii=False, default=str)


def explain(error: ErrorDetails) -> str:
    """One line for one of pydantic's errors."""
    location, kind = error["loc"], error["type"]
    path, value = dotted(location) or "the file", shown(error["input"])
    if kind == "extra_forbidden":
        return f"{path}: unknown key; {nearest_key(location)}"
    if kind == "model_type":
        return f"{path}: {value} is not a group of keys"
    field = find(location)
    if field is None:
        return f"{path}: {error['msg']}"
    if kind in BOUNDS:
        return f"{path}: {value} is outside {note(field, 'interval')}"
    if kind == "value_error":
        return f"{path}: {value} is {error['ctx']['error']}"
    if isinstance(location[-1], int):
        names = choices(field)
        words = (
            f"one of {', '.join(names)}"
            if names
            else f"a whole number in {note(field, 'interval')}"
        )
        return f"{path}: {value} is not {words}{did_you_mean(error['input'], names)}"
    return f"{path}: {value} is not {allowed(field)}{did_you_mean(error['input'], choices(field))}"


def find(location: Location) -> FieldInfo | None:
    """The setting at a location, or at the list that holds it; None where there is none."""
    path = dotted(part for part in location if isinstance(part, str))
    return dict(leaves(Params)).get(path)


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """``; did you mean …?`` with the nearest known name, empty where none is near.

    >>> did_you_mean("zeroQ", ["dynadfq", "zeroq"])
    '; did you mean zeroq?'
    """
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def keys() -> list[str]:
    """Every dotted key of ``params.yaml``, groups included, in the order of the file."""
    found: dict[str, None] = {}
    for path, _ in leaves(Params):
        parts = path.split(".")
        found.update(dict.fromkeys(".".join(parts[: end + 1]) for end in range(len(parts))))
    return list(found)


def nearest_key(location: Location) -> str:
    """Advice on an unknown key: its name in another group, a similar or longer one in its own, a
    similar one anywhere.

    >>> nearest_key(("finetune", "lr")), nearest_key(("synthesis", "decay_every"))
    ('did you mean finetune.learning_rate?', 'did you mean finetune.decay_every?')
    """
    group, leaf = dotted(location[:-1]), str(location[-1])
    names = {key: key.rpartition(".")[2] for key in keys()}
    siblings = [key for key in names if key.rpartition(".")[0] == group]
    same_name = [key for key, name in names.items() if name == leaf]
    similar = difflib.get_close_matches(leaf, [names[key] for key in siblings], n=1)
    longer = [key for key in siblings if leaf and names[key].startswith(leaf)]
    initials = [
        key for key in siblings if "".join(word[0] for word in names[key].split("_")) == leaf
    ]
    anywhere = difflib.get_close_matches(leaf, names.values(), n=1)
    if same_name:
        return f"did you mean {max(same_name, key=lambda key: _shared(key, group))}?"
    candidates = (
        [key for key in siblings if names[key] in similar]
        or longer
        or initials
        or [key for key, name in names.items() if name in anywhere]
    )
    if not candidates:
        return f"{group or 'the file'} has {', '.join(names[key] for key in siblings)}"
    return (
        f"did you mean {difflib.get_close_matches(dotted(location), candidates, n=1, cutoff=0)[0]}?"
    )


def _shared(key: str, group: str) -> int:
    """How many groups a key has in common with another, from the outermost on."""
    pairs = zip(key.split("."), group.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
