"""``dynadfq budget``: set what images may cost, without training again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynadfq.cli.models import StudentModel, load_only_student
from dynadfq.cli.output import AsJson, print_json

NAME = "budget"
EXAMPLES = """\b
Examples:
  dynadfq budget artifacts/student                                    # what is in reach
  dynadfq budget artifacts/student --bit-flops-percent 2.3            # the multiplier of that budget
  dynadfq budget artifacts/student --bit-flops-percent 2.3 --to cheap # a student that keeps to it

\b
The multiplier is found on synthetic images; other images cost about as much, and the report's curve
says what accuracy that leaves."""

Percent = Annotated[
    float | None, typer.Option(help="Mean cost of an image, in percent of the float network's.")
]
Images = Annotated[Path, typer.Option(help="Folder of synthetic images to set it on.")]
To = Annotated[Path | None, typer.Option(help="Folder to save the student to, budget and all.")]


def run(
    model: StudentModel,
    bit_flops_percent: Percent = None,
    images: Images = Path("artifacts/synthetic"),
    to: To = None,
    as_json: AsJson = False,
) -> None:
    """Show or set what images may cost.

    A multiplier on bit-FLOPs shifts the widths that every image chooses; no training is needed.
    """
    from dynadfq.synthesis.dataset import SyntheticSet

    student = load_only_student(model)
    if to is not None and bit_flops_percent is None:
        raise typer.BadParameter("give a budget to save: --bit-flops-percent", param_hint="--to")
    reach = student.cost_range()
    found: dict[str, object] = {
        "model": str(model),
        "bit_flops_percent": reach,
        "multiplier": student.multiplier,
    }
    if bit_flops_percent is not None:
        setting = student.set_budget(bit_flops_percent, SyntheticSet(images).check())
        found |= {"multiplier": setting.multiplier, "setting": setting._asdict()}
        if to is not None:
            student.save(to)
    if as_json:
        return print_json(found)
    typer.echo(
        f"in reach: {reach['lowest']:.4f} … {reach['highest']:.4f} % of the float network's bit-FLOPs"
    )
    typer.echo(f"multiplier: {student.multiplier:.6g}")
    if bit_flops_percent is not None:
        typer.echo(f"reached: {setting.bit_flops_percent:.4f} % over {setting.images} images")
        if to is not None:
            typer.echo(f"saved: {to}")
