"""``dynadfq init``: the pipeline and its stages as a DVC project of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynadfq.cli.output import AsJson, print_json

NAME = "init"
EXAMPLES = """\b
Examples:
  dynadfq init my-experiment
  dynadfq init my-experiment --config efficientnet-lite0

\b
Writes params.yaml, dvc.yaml, stages/ and configs/. Then, in the new folder: dvc repro."""

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new project.")]
Experiment = Annotated[
    str, typer.Option("--config", help="Ready-made experiment that becomes params.yaml.")
]


def run(folder: Folder, config: Experiment = "digits", as_json: AsJson = False) -> None:
    """Start an experiment: a DVC project with the pipeline's stages.

    The stages depend on the installed version of dynadfq, and are yours to change.
    """
    from dynadfq.cli.options import options_named
    from dynadfq.project.create import create_project

    with options_named():
        create_project(folder, config)
    if as_json:
        print_json({"folder": str(folder), "config": config})
    else:
        typer.echo(
            f"{folder}: params.yaml, dvc.yaml, stages/, configs/\n"
            "Next: pip install 'dynadfq[pipeline]' where DVC is missing, then\n"
            f"  cd {folder} && dvc repro"
        )
