"""What one DVC stage sees of ``params.yaml``: the fields of its view, and nothing else.

DVC re-runs a stage when a declared parameter changes. A stage that read another one would keep a
stale result, so that a view's fields are the parameters that ``dvc.yaml`` declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from dynadfq.params.loading import read
from dynadfq.runtime.config import Config, is_config


class View(Config):
    """A part of ``Params``, or of one of its groups, by the same names."""


V = TypeVar("V", bound=View)


def load(view: type[V], path: str | Path = "params.yaml") -> V:
    """Check the whole parameter file and return the part that a stage declares.

    Raises:
        ParameterError: with every problem of the file.
    """
    return narrow(read(path), view)


def narrow(group: Config, view: type[V]) -> V:
    """Return the part of a group that a view has."""
    return view.model_validate(group, from_attributes=True)


def declared(view: type[View], prefix: str = "") -> Iterator[str]:
    """Yield the keys of a view as ``dvc.yaml`` declares them."""
    for name, field in view.model_fields.items():
        kind = field.annotation
        if is_config(kind) and issubclass(kind, View):
            yield from declared(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def key_of(group: Config, argument: str) -> str | None:
    """Return the dotted key of the setting of that name in a group; None without one.

    Of several, it is the one that is nested least, as ``finetune.batch_size``.
    """
    found = (key for key in _keys(group) if key.rpartition(".")[2] == argument)
    return min(found, key=lambda key: key.count("."), default=None)


def _keys(group: Config, prefix: str = "") -> Iterator[str]:
    for name in type(group).model_fields:
        value = getattr(group, name)
        if isinstance(value, Config):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
