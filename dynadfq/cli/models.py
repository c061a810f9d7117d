"""The argument MODEL: the folder of a student or a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynadfq.cli.options import options_named

if TYPE_CHECKING:
    from dynadfq.quant.model import Student
    from dynadfq.teacher.teacher import Teacher

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Folder of a student or of a teacher.")
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:NAME",
        help="Import path of the network that MODEL may name, such as my_pkg.models:build; "
        "no other is imported.",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images per batch; changes no result.")]
StudentModel = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a student.")]


def load(folder: Path, trust: Trust = None) -> Student | Teacher:
    """Return the student or teacher that a folder holds.

    Args:
        folder: the argument MODEL.
        trust: import paths that it may name.

    Raises:
        ValueError: it holds neither.
    """
    from dynadfq.quant.build import load_student
    from dynadfq.teacher.loading import load_teacher

    with options_named():
        if (folder / "student.json").exists():
            return load_student(folder, trust=trust or ())
        if (folder / "teacher.json").exists():
            return load_teacher(folder, trust=trust or ())
    state = "has neither student.json nor teacher.json" if folder.is_dir() else "is not a folder"
    raise ValueError(
        f"MODEL: {folder} {state}; give the folder of a model, such as artifacts/student"
    )


def load_only_student(folder: Path, trust: Trust = None) -> Student:
    """Return the student that a folder holds; see ``load``.

    Raises:
        ValueError: it holds none.
    """
    from dynadfq.quant.model import Student

    model = load(folder, trust)
    if not isinstance(model, Student):
        raise ValueError(
            f"MODEL: {folder} holds a teacher, and this command needs a student; "
            "give one, such as artifacts/student"
        )
    return model


def description(model: Student | Teacher) -> dict[str, Any]:
    """Return facts about the float network: architecture, classes, preprocessing."""
    from dynadfq.quant.model import Student

    return model.description if isinstance(model, Student) else model.describe()
