"""Numbers of Python, NumPy or torch as Python's own."""

from __future__ import annotations

from typing import Any

from dynadfq.runtime.config import MAX_SEED, interval
from dynadfq.runtime.errors import InvalidArgument, shown

Shape = tuple[int, int, int]


def whole_number(argument: str, value: object) -> int:
    """Return a whole number of Python, NumPy or torch as an int.

    Args:
        argument: its name, for the error.
        value: the number.

    Raises:
        InvalidArgument: it is something else.

    >>> import torch
    >>> whole_number("num_classes", torch.tensor(10))
    10
    """
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, int):
        raise InvalidArgument(argument, f"must be a whole number; got {shown(found)}")
    return found


def seed_number(value: object) -> int:
    """Return a seed as an int: equal numbers of any library then give equal streams.

    Raises:
        InvalidArgument: it is no whole number, or none that ``params.yaml`` permits.
    """
    seed = whole_number("seed", value)
    if not 0 <= seed <= MAX_SEED:
        raise InvalidArgument("seed", f"must be in {interval(ge=0, le=MAX_SEED)}; got {seed}")
    return seed


def real_number(argument: str, value: object) -> float:
    """Return a number of Python, NumPy or torch as a float.

    Args:
        argument: its name, for the error.
        value: the number.

    Raises:
        InvalidArgument: it is something else.
    """
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise InvalidArgument(argument, f"must be a number; got {shown(found)}")
    return float(found)


def real_numbers(argument: str, values: object) -> tuple[float, ...]:
    """Return the numbers of a list, an array or a tensor as floats.

    Args:
        argument: their name, for the error.
        values: the numbers.

    Raises:
        InvalidArgument: they are something else.

    >>> import numpy
    >>> real_numbers("mean", numpy.array([0.5, 0.25]))
    (0.5, 0.25)
    """
    return tuple(real_number(argument, value) for value in _listed(argument, values, "numbers"))


def image_shape(argument: str, values: object) -> Shape:
    """Return the shape of an image, (C, H, W), as three ints.

    Args:
        argument: its name, for the error.
        values: three whole numbers above 0.

    Raises:
        InvalidArgument: they are something else.
    """
    sizes = [whole_number(argument, value) for value in _listed(argument, values, "sizes")]
    if len(sizes) != 3 or min(sizes) < 1:
        raise InvalidArgument(
            argument, f"must be channels, height and width, each above 0; got {shown(sizes)}"
        )
    channels, height, width = sizes
    return channels, height, width


def plain(value: Any) -> Any:
    """Return a NumPy array or number, or a tensor, as numbers of Python; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _listed(argument: str, values: object, what: str) -> list[Any]:
    found = plain(values)
    if not isinstance(found, (list, tuple)):
        raise InvalidArgument(argument, f"must be a list of {what}; got {shown(found)}")
    return list(found)
