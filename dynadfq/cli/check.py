"""``dynadfq check``: the parameters of an experiment, before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dynadfq.cli.output import AsJson, print_json

NAME = "check"
EXAMPLES = """\b
Examples:
  dynadfq check
  dynadfq check configs/cifar10.yaml"""

File = Annotated[Path, typer.Argument(help="The parameter file.")]


def run(file: File = Path("params.yaml"), as_json: AsJson = False) -> None:
    """Check a parameter file: values, constraints between keys, memory, files that it names."""
    from dynadfq.params import examine

    notes = examine(file, Path())
    if as_json:
        print_json({"file": str(file), "notes": notes})
        return
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    typer.echo(f"{file} is valid")
