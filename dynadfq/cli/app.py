"""All commands together, and how their errors are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from dynadfq import __version__
from dynadfq.cli import (
    bench,
    budget,
    calibrate,
    check,
    compare,
    evaluate,
    export,
    init,
    inspect,
    predict,
    quantize,
    similarity,
)
from dynadfq.runtime.program import one_line

HELP = "Use quantized image classifiers that choose activation bit-widths per image."
EPILOG = """\b
MODEL is a folder that a pipeline stage, Student.save or Teacher.save wrote, such as
artifacts/student, artifacts/fixed or artifacts/teacher.
Exit status: 0 success, 1 failure (one sentence on stderr), 2 wrong usage.
Every command has --json, and --help with examples."""

app = typer.Typer(
    name="dynadfq",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynadfq {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
]


@app.callback(help=HELP, epilog=EPILOG, no_args_is_help=True)
def _options(version: Version = False) -> None:
    """Options of the program itself."""


COMMANDS = (
    inspect,
    predict,
    evaluate,
    budget,
    bench,
    similarity,
    export,
    calibrate,
    quantize,
    init,
    check,
    compare,
)
for command in COMMANDS:
    app.command(command.NAME, epilog=command.EXAMPLES)(command.run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a user's error, or a signal, is one sentence on stderr.

    DYNADFQ_TRACEBACK=1 shows where an error was raised.
    """
    with one_line("dynadfq", "run the command again"):
        # Import paths of one's own networks start here too, as with `python -m`.
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
        app(args=None if arguments is None else list(arguments), prog_name="dynadfq")
