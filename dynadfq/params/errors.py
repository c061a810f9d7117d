"""What is wrong with a parameter file, in the user's own keys and with the way out."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import takewhile
from os import PathLike

from pydantic_core import ErrorDetails

from dynadfq.params.sections import Params
from dynadfq.runtime.config import explain, leaves
from dynadfq.runtime.errors import dotted

Location = tuple[int | str, ...]


class ParameterError(ValueError):
    """Every problem of a file at once, a line each; also as ``problems``."""

    def __init__(self, path: str | PathLike[str], problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{path} has {count}:", *self.problems]))


def line_of(error: ErrorDetails) -> str:
    """Return one line for one of pydantic's errors."""
    location = error["loc"]
    if error["type"] == "extra_forbidden":
        return f"{dotted(location)}: unknown key; {nearest_key(location)}"
    key, problem = explain(error, Params)
    return f"{key or 'the file'}: {problem}"


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
