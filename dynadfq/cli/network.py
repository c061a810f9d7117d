"""The argument MODEL of commands that begin with a float network, and its options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dynadfq.teacher.teacher import Teacher

Network = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A zoo's network such as torchvision/resnet50, an import path such as "
        "my_pkg.models:build, or the folder of a teacher.",
    ),
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="File of weights; by default the zoo's published ones.")
]
InputShape = Annotated[
    str | None, typer.Option(metavar="C,H,W", help="Shape of an image, where MODEL has none.")
]
NumClasses = Annotated[
    int | None, typer.Option(min=2, help="Number of classes, where MODEL has none.")
]
Mean = Annotated[
    str | None,
    typer.Option(metavar="M,…", help="Mean per channel, of pixels in 0 … 1; MODEL's, or 0."),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="S,…", help="Standard deviation per channel; MODEL's, or 1."),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same file.")]

# Arguments of the library that errors begin with, as the commands call them.
OPTIONS = {
    **{name: f"--{name}" for name in ("to", "data", "effort", "mean", "std", "device", "seed")},
    "root": "--data",
    "class_file": "--classes",
    "classes": "--classes",
    "config": "--config",
    "num_classes": "--num-classes",
    "input_shape": "--input-shape",
    "checkpoint": "--checkpoint",
}


@contextmanager
def options_named(**others: str) -> Iterator[None]:
    """Turn arguments that a library error begins with into options of the command.

    Args:
        others: names that this command has for arguments, in place of those in ``OPTIONS``.

    >>> with options_named():
    ...     raise ValueError("num_classes: must be given")
    Traceback (most recent call last):
    ValueError: --num-classes: must be given
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        name, _, problem = str(error).partition(": ")
        options = {**OPTIONS, **others}
        if name not in options:
            raise
        raise ValueError(f"{options[name]}: {problem}") from error


def load_network(
    model: str,
    checkpoint: Path | None,
    input_shape: str | None,
    num_classes: int | None,
    mean: str | None,
    std: str | None,
    trust: list[str] | None = None,
) -> Teacher:
    """Return the float network that the arguments of a command name.

    Raises:
        ValueError: MODEL is a student, or an option is wrong or missing.
        ImportError: a library or the user's module cannot be imported.
        FileNotFoundError: a file is missing.
    """
    from dynadfq.teacher.loading import load_teacher

    folder = Path(model)
    if (folder / "student.json").exists():
        raise ValueError(
            f"MODEL: {model} holds a student, which is quantized already; give a float network "
            "(dynadfq export writes a student's files)"
        )
    if folder.is_dir() and not (folder / "teacher.json").exists():
        raise ValueError(f"MODEL: {model} has no teacher.json; give the folder of a teacher")
    shape = None if input_shape is None else [int(n) for n in numbers("--input-shape", input_shape)]
    if shape is not None and len(shape) != 3:
        raise ValueError(f"--input-shape: {input_shape} must be three numbers C,H,W, as 3,224,224")
    return load_teacher(
        model,
        checkpoint=checkpoint,
        num_classes=num_classes,
        input_shape=shape,
        mean=None if mean is None else numbers("--mean", mean),
        std=None if std is None else numbers("--std", std),
        trust=trust or (),
    )


def numbers(option: str, text: str) -> list[float]:
    """Return the numbers of an option, which commas separate.

    >>> numbers("--mean", "0.5, 0.25")
    [0.5, 0.25]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option}: {text!r} must be numbers with commas between them") from None
