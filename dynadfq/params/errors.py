"""Errors in a parameter file, in the user's own keys, with a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from os import PathLike

from pydantic_core import ErrorDetails

from dynadfq.methods import METHODS
from dynadfq.params.sections import Params
from dynadfq.runtime.config import explain, leaves
from dynadfq.runtime.errors import dotted

Location = tuple[int | str, ...]

# Keys of earlier versions.
MOVED = {
    "quantization.activation_bits": "selector.candidates",
    "quantization.weight_grid": "quantization.weight_granularity",
    "quantization.selector": "selector",
    "quantization.ranges.learning_rate": "finetune.range_learning_rate",
    "selector.warm_start_images": "selector.warm_up_images",
    "method.student.live_images": "method.student.online_generator",
    "method.student.regularisation": "method.student.regularization",
    "method.student.equalise": "method.student.equalize",
    **{f"method.{name}": "in method.images and method.student" for name in METHODS},
}


class ParameterError(ValueError):
    """Every problem of a file at once, a line each; also as ``problems``."""

    def __init__(self, path: str | PathLike[str], problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{path} has {count}:", *self.problems]))


def line_of(error: ErrorDetails, params: type[Params] = Params) -> str:
    """Return one line for one of pydantic's errors of validating ``params``."""
    key = dotted(error["loc"])
    if key in MOVED:
        return f"{key}: unknown key; it is now {MOVED[key]}"
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest_key(error['loc'], params)}"
    key, problem = explain(error, params)
    return f"{key or 'the file'}: {problem}"


def keys(params: type[Params]) -> list[str]:
    """Return every dotted key of ``params.yaml``, groups included, in the order of the file."""
    found: dict[str, None] = {}
    for path, _ in leaves(params):
        parts = path.split(".")
        found.update(dict.fromkeys(".".join(parts[: end + 1]) for end in range(len(parts))))
    return list(found)


def nearest_key(location: Location, params: type[Params] = Params) -> str:
    """Return advice on an unknown key: its name in another group, a similar one in its own, or a
    similar one anywhere.

    >>> nearest_key(("finetune", "lr")), nearest_key(("synthesis", "decay_every"))
    ('did you mean finetune.learning_rate?', 'did you mean finetune.decay_every?')
    """
    group = dotted(location[:-1])
    leaf = str(location[-1])
    names = {key: key.rpartition(".")[2] for key in keys(params)}
    siblings = {key: name for key, name in names.items() if key.rpartition(".")[0] == group}
    near = difflib.get_close_matches(leaf, siblings.values(), n=1)
    anywhere = difflib.get_close_matches(leaf, names.values(), n=1)
    candidates = (
        [key for key, name in names.items() if name == leaf]
        or [key for key, name in siblings.items() if name in near or _initials(name) == leaf]
        or [key for key, name in siblings.items() if name.startswith(leaf)]
        or [key for key, name in names.items() if name in anywhere]
    )
    if not candidates:
        return f"{group or 'the file'} has {', '.join(siblings.values())}"
    [best] = difflib.get_close_matches(dotted(location), candidates, n=1, cutoff=0)
    return f"did you mean {best}?"


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split("_"))
