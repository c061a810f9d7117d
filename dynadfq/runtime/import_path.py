"""Objects of the user's own code, by import path: ``my_pkg.data:build``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from dynadfq.runtime.errors import InvalidArgument

PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_path(text: str) -> bool:
    """Return whether a text has the form of an import path: a module, a colon, a name in it.

    >>> is_import_path("my_pkg.data:build"), is_import_path("cifar10")
    (True, False)
    """
    return PATTERN.fullmatch(text) is not None


def import_object(path: str, key: str) -> Any:
    """Return the object that an import path names.

    Args:
        path: the import path.
        key: the setting that holds it, for the error.

    Raises:
        ImportError: there is no such module, or no such name in it.
    """
    module, _, name = path.partition(":")
    try:
        return reduce(getattr, name.split("."), import_module(module))
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"{key}: {path!r} cannot be imported ({error}); the module must define the name after "
            "the colon, and be installed or on PYTHONPATH: PYTHONPATH=/folder/that/holds/"
            f"{module.partition('.')[0]}"
        ) from error


def require_trusted(path: str, trust: Collection[str], file: Path) -> None:
    """Check that the user named the import path that a file names.

    Importing and calling an object runs its code, and a file may come from anyone. A text that is
    no import path, such as ``family/model``, passes: it runs nothing of the file's choice.

    Args:
        path: what the file names.
        trust: one import path that the user named, or several.
        file: the file, for the error.

    Raises:
        InvalidArgument: the user did not name it.
    """
    trusted = (trust,) if isinstance(trust, str) else trust
    if is_import_path(path) and path not in trusted:
        raise InvalidArgument(
            "trust",
            f"{file} names {path!r}, which would be imported and called; if you know this code, "
            f"name it too: trust=({path!r},) in Python, --trust {path} on the command line, "
            "teacher.architecture in params.yaml",
        )


def call_object(path: str, key: str, returns: str, **offered: Any) -> Any:
    """Call the function or class that an import path names, and return the result.

    Args:
        path: the import path.
        key: the setting that holds it, for the error.
        returns: what it should return, for the error.
        offered: keyword arguments; it gets those that it takes.

    Raises:
        ImportError: it cannot be imported.
        ValueError: it is not callable, or needs other arguments.
    """
    target = import_object(path, key)
    if not callable(target):
        raise InvalidArgument(
            key,
            f"{path!r} is {type(target).__name__}, not a function or class that returns {returns}",
        )
    arguments = accepted(target, **offered)
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise InvalidArgument(
            key,
            f"{path!r} is called with {' and '.join(offered)} at most ({error}); "
            "write a function that takes no more and fills in the rest",
        ) from error
    return target(**arguments)


def accepted(target: Any, **offered: Any) -> dict[str, Any]:
    """Return those of the offered arguments that a callable takes by name.

    >>> accepted(lambda root, *, train: None, root="data", train=True, size=3)
    {'root': 'data', 'train': True}
    """
    parameters = inspect.signature(target).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return offered
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in offered.items() if name in by_name}
