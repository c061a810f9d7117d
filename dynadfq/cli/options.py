"""Names of arguments in the library's errors, as the commands call them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

INDEX = re.compile(r"\[\d+\]$")  # of one number of a list
# Arguments of the library that errors begin with, as the commands call them.
OPTIONS = {
    **{name: f"--{name}" for name in ("to", "data", "effort", "mean", "std", "device", "seed")},
    **dict.fromkeys(("architecture", "model", "module", "pretrained", "student"), "MODEL"),
    "root": "--data",
    "class_file": "--classes",
    "classes": "--classes",
    "config": "--config",
    "num_classes": "--num-classes",
    "input_shape": "--input-shape",
    "checkpoint": "--checkpoint",
    "trust": "--trust",
}


@contextmanager
def options_named(**others: str) -> Iterator[None]:
    """Turn arguments that a library error begins with into options of the command.

    Args:
        others: names that this command has for arguments, in place of those in ``OPTIONS``.

    >>> with options_named():
    ...     raise ValueError("input_shape, std[0]: must be given")
    Traceback (most recent call last):
    ValueError: --input-shape, --std: must be given
    """
    try:
        yield
    except (ValueError, ImportError, FileNotFoundError) as error:
        names, _, problem = str(error).partition(": ")
        options = {**OPTIONS, **others}
        found = [options.get(INDEX.sub("", name)) for name in names.split(", ")]
        if None in found:
            raise
        raise ValueError(f"{', '.join(map(str, found))}: {problem}") from error
