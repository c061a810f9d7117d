"""The commands together, and what a user sees when one fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from dynadfq.cli import bench, export, inspect, predict, similarity
from dynadfq.cli import budget as budget

FAILED = 1  # exit status; 2 is a wrong option or argument, which typer reports
EPILOG = """\b
MODEL is a folder: artifacts/student, artifacts/fixed or artifacts/teacher, or what
Student.save or Teacher.save wrote.
Exit status: 0 done, 1 failed (one sentence on stderr), 2 wrong usage.
Every command has --json and --help with examples."""

app = typer.Typer(
    name="dynadfq",
    help="Use quantized classifiers whose bit-widths are chosen per image.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (inspect, predict, budget, bench, similarity, export):
    app.command(command.NAME, epilog=command.EXAMPLES)(command.run)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what a user can mend is one sentence on stderr. DYNADFQ_TRACEBACK=1 shows
    where it happened.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="dynadfq")
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if os.environ.get("DYNADFQ_TRACEBACK"):
            raise
        print(f"dynadfq: {error}", file=sys.stderr)
        sys.exit(FAILED)
