"""The line of a user's code at which an error was raised."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

# Code of torch and of this library, which a user does not change.
LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def users_line(error: BaseException) -> str:
    """Return the innermost line outside torch and this library, as ``models.py, line 12: code``.

    Returns:
        The line; empty where the error comes from no file, as in code that torch generated.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.line and not frame.filename.startswith(LIBRARIES):
            return f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}"
    return ""
