"""Names of a network's classes."""

from __future__ import annotations

from collections.abc import Sequence

from dynadfq.runtime.errors import InvalidArgument, shown
from dynadfq.runtime.numbers import plain


def named_classes(names: Sequence[object] | None, num_classes: int) -> tuple[str, ...]:
    """Return one name per class: the given ones, or the classes' numbers where None are given.

    Raises:
        InvalidArgument: they are no list of names, or not as many as classes.
    """
    if names is None:
        return tuple(map(str, range(num_classes)))
    found = texts(names)
    if len(found) != num_classes:
        raise InvalidArgument(
            "class_names", f"{len(found)} names for {num_classes} classes; give one per class"
        )
    return found


def texts(names: Sequence[object]) -> tuple[str, ...]:
    """Return the class names of a list or an array as texts; numbers count as names.

    Raises:
        InvalidArgument: they are something else.
    """
    found = plain(names)
    if not isinstance(found, (list, tuple)) or not all(
        isinstance(name, (str, int)) for name in found
    ):
        raise InvalidArgument("class_names", f"must be a list of texts; got {shown(found)}")
    return tuple(map(str, found))
