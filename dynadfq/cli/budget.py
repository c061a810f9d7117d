"""``dynadfq budget``: set the mean cost of an image, without training again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dynadfq.cli.models import StudentModel, Trust, load_only_student
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, print_json

NAME = "budget"
EXAMPLES = """\b
Examples:
  dynadfq budget artifacts/student                                    # the possible range
  dynadfq budget artifacts/student --bit-flops-percent 2.3            # the multiplier for a budget
  dynadfq budget artifacts/student --bit-flops-percent 2.3 --to cheap # save a student that keeps it

\b
The Lagrange multiplier is found on synthetic images; other images cost about as much. The report's
curve shows the accuracy at each budget."""

Percent = Annotated[
    float | None,
    typer.Option(help="Budget: mean bit-FLOPs per image, in percent of the float network's."),
]
Images = Annotated[Path, typer.Option(help="Folder of synthetic images to find the multiplier on.")]
To = Annotated[Path | None, typer.Option(help="Folder to save the student with its budget to.")]


def run(
    model: StudentModel,
    bit_flops_percent: Percent = None,
    images: Images = Path("artifacts/synthetic"),
    to: To = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Show or set the bit budget of a student.

    A Lagrange multiplier on bit-FLOPs shifts the bit-widths that images choose. Nothing is trained.
    """
    from dynadfq.synthesis.dataset import SyntheticSet
    from dynadfq.synthesis.manifest import MANIFEST

    if to is not None and bit_flops_percent is None:
        raise typer.BadParameter("give a budget to save: --bit-flops-percent", param_hint="--to")
    student = load_only_student(model, trust)
    possible = student.cost_range()
    found: dict[str, object] = {"model": str(model), "bit_flops_percent": possible}
    limits = f"{possible['lowest']:.4f} … {possible['highest']:.4f}"
    lines = [f"possible: {limits} % of the float network's bit-FLOPs"]
    if bit_flops_percent is not None:
        if not (images / MANIFEST).exists():
            raise ValueError(
                f"--images: {images} holds no {MANIFEST}; give a folder of synthetic images, as "
                "stage synthesize and dynadfq.synthesize write it"
            )
        with options_named(bit_flops_percent="--bit-flops-percent", images="--images"):
            setting = student.set_budget(bit_flops_percent, SyntheticSet(images).check())
        found["setting"] = setting._asdict()
        lines.append(f"reached: {setting.bit_flops_percent:.4f} % over {setting.images} images")
    if to is not None:
        student.save(to)
        lines.append(f"saved: {to}")
    if as_json:
        print_json(found | {"multiplier": student.multiplier})
    else:
        typer.echo("\n".join([*lines, f"multiplier: {student.multiplier:.6g}"]))
