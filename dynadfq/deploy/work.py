"""Unfinished work in a folder beside the output, which a killed command goes on with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from dynadfq.runtime.resume import fingerprint, library_digest
from dynadfq.teacher.teacher import Teacher


class Work:
    """A folder of intermediate results.

    Args:
        folder: of everything that is unfinished for one output.
        identity: of these settings and this network, a subfolder.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.top = folder
        self.folder = folder / identity

    @classmethod
    def beside(cls, to: Path, teacher: Teacher, *settings: Any) -> Work:
        """Return the folder for an output that these settings give of a teacher.

        Work of another version of the library, or of torch, is not continued.
        """
        code = library_digest()
        identity = fingerprint(code, torch.__version__, *settings, teacher.describe())
        whole = to.resolve()  # "." has no name
        return cls(whole.with_name(f"{whole.name}.unfinished"), identity)

    def delete(self) -> None:
        """Delete all unfinished work for the output, once it is written."""
        shutil.rmtree(self.top, ignore_errors=True)
