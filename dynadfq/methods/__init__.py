"""The methods by name. To add one, write a file in this folder and import it here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dynadfq.methods import (  # noqa: F401  # an imported method is found below
    adadfq,
    adaround,
    deepinversion,
    dfq,
    dsg,
    dynadfq,
    gdfq,
    gznq,
    hast,
    intraq,
    qimera,
    real_data,
    squant,
    synq,
    zeroq,
)
from dynadfq.methods.base import Method

METHODS = {method.__module__.rpartition(".")[2]: method for method in Method.__subclasses__()}


def without_batch_norm() -> str:
    """Return the methods that need no BatchNorm statistics, with the settings they then need."""
    words = []
    for name, method in METHODS.items():
        if method.without_batch_norm is not None:
            settings = method.without_batch_norm.items()
            needed = ", ".join(f"method.{key}: {value}" for key, value in settings)
            words.append(f"{name} ({needed})" if needed else name)
    return ", ".join(words)


@contextmanager
def suggest_other_methods() -> Iterator[None]:
    """Name the methods that need no BatchNorm statistics in an error about missing ones.

    Raises:
        NoBatchNormStatistics: the same error, with the suggestion.
    """
    from dynadfq.teacher.recording import NoBatchNormStatistics

    try:
        yield
    except NoBatchNormStatistics as error:
        raise NoBatchNormStatistics(
            f"{error}; methods that need none: {without_batch_norm()}"
        ) from error
