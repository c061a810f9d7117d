"""The argument MODEL of commands that begin with a float network, and its options."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from dynadfq.cli.models import Trust

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

KEYWORD, EMPTY = Parameter.KEYWORD_ONLY, Parameter.empty


class FloatNetwork(NamedTuple):
    """The argument MODEL, and the options that say more about the network."""

    model: Network
    checkpoint: Checkpoint = None
    input_shape: InputShape = None
    num_classes: NumClasses = None
    mean: Mean = None
    std: Std = None
    trust: Trust = None

    def load(self) -> Teacher:
        """Return the float network that they name.

        Raises:
            ValueError: MODEL is a student, or an option is wrong or missing.
            ImportError: a library or the user's module cannot be imported.
            FileNotFoundError: a file is missing.
        """
        from dynadfq.teacher.loading import load_teacher

        folder = Path(self.model)
        if (folder / "student.json").exists():
            raise ValueError(
                f"MODEL: {self.model} holds a student, which is quantized already; give a float "
                "network (dynadfq export writes a student's files)"
            )
        if folder.is_dir() and not (folder / "teacher.json").exists():
            raise ValueError(
                f"MODEL: {self.model} has no teacher.json; give the folder of a teacher"
            )
        size = self.input_shape
        shape = None if size is None else [part.strip() for part in size.split(",")]
        if shape is not None and not (len(shape) == 3 and all(map(str.isdecimal, shape))):
            raise ValueError(f"--input-shape: {size} must be three numbers C,H,W, as 3,224,224")
        return load_teacher(
            self.model,
            checkpoint=self.checkpoint,
            num_classes=self.num_classes,
            input_shape=None if shape is None else [int(part) for part in shape],
            mean=None if self.mean is None else numbers("--mean", self.mean),
            std=None if self.std is None else numbers("--std", self.std),
            trust=self.trust or (),
        )


def with_network(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the fields of ``FloatNetwork`` in place of its parameter ``network``.

    Typer reads the arguments and options of a command from its signature.
    """
    hints = get_type_hints(command, include_extras=True)
    fields = get_type_hints(FloatNetwork, include_extras=True)
    del hints["return"], hints["network"]
    own = {name: one.default for name, one in signature(command).parameters.items()}
    defaults = own | FloatNetwork._field_defaults

    def run(**values: Any) -> None:
        network = FloatNetwork(**{name: values.pop(name) for name in fields})
        command(network, **values)

    run.__doc__ = command.__doc__
    run.__annotations__ = fields | hints
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, KEYWORD, default=defaults.get(name, EMPTY), annotation=hint)
            for name, hint in run.__annotations__.items()
        ]
    )
    return run


def numbers(option: str, text: str) -> list[float]:
    """Return the numbers of an option, which commas separate.

    >>> numbers("--mean", "0.5, 0.25")
    [0.5, 0.25]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option}: {text!r} must be numbers with commas between them") from None
