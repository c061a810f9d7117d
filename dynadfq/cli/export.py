"""``dynadfq export``: a student as a file that runs without this library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dynadfq.cli.images import image_paths
from dynadfq.cli.models import StudentModel, load_only_student
from dynadfq.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.quant.model import Student

NAME = "export"
EXAMPLES = """\b
Examples:
  dynadfq export artifacts/student --to onnx
  dynadfq export artifacts/student --to onnx --form convinteger -o student-int.onnx
  dynadfq export artifacts/student --to pt2 --check photographs/ --check-images 256

\b
The file is only written if it answers the check images as the student does: the same bits, and
logits within 1e-4 (onnx) or equal (pt2). They are synthetic images, or files with --check."""

To = Annotated[Literal["onnx", "pt2"], typer.Option(help="ONNX, or a torch.export program.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="The file; left out, beside MODEL, such as artifacts/student.onnx."
    ),
]
Form = Annotated[
    Literal["codes", "convinteger"],
    typer.Option(help="ONNX: products of codes in floats, or integer operators."),
]
Check = Annotated[
    str, typer.Option(help="Synthetic images, or a folder or pattern of image files.")
]
Count = Annotated[int, typer.Option(min=1, help="Images to check on.")]


def run(
    model: StudentModel,
    to: To = "onnx",
    output: Output = None,
    form: Form = "codes",
    check: Check = "artifacts/synthetic",
    check_images: Count = 64,
    as_json: AsJson = False,
) -> None:
    """Write a student as ONNX or as a torch program.

    The file is checked first: it has to compute what the student computes.
    """
    from dynadfq.export.onnx_export import export_onnx
    from dynadfq.export.program import export_program

    if to == "pt2" and form != "codes":
        raise typer.BadParameter(
            "is a form of ONNX files; a torch program holds codes", param_hint="--form convinteger"
        )
    path = output or _beside(model.resolve(), to, form)
    if path.is_dir():
        raise ValueError(f"--output: {path} is a folder; name a file")
    student = load_only_student(model)
    images = _images(student, check, check_images)
    found: dict[str, object] = {"model": str(model), "path": str(path), "check_images": len(images)}
    if to == "onnx":
        export = export_onnx(student, path, images, form)
        found |= {"worst_logit_difference": export.worst, "kept": list(export.kept)}
        facts = export.facts
    else:
        facts = export_program(student, path, images).facts
    found |= {
        "bytes": path.stat().st_size,
        "not_integer": [str(fact) for fact in facts if not fact.exact],
    }
    if as_json:
        return print_json(found)
    typer.echo(f"{path}: {path.stat().st_size:,} bytes, checked on {len(images)} images")
    for fact in facts:
        if not fact.exact:
            typer.echo(f"  {fact}")


def _beside(model: Path, to: str, form: str) -> Path:
    return model.with_name(f"{model.name}{'-convinteger' if form == 'convinteger' else ''}.{to}")


def _images(student: Student, source: str, count: int) -> Tensor:
    import torch

    from dynadfq.ops.preprocess import read_image
    from dynadfq.synthesis.dataset import MANIFEST, SyntheticSet

    if (Path(source) / MANIFEST).exists():
        synthetic = SyntheticSet(source)
        return synthetic.take(torch.arange(min(count, len(synthetic)))).images
    if not Path(source).exists() and not any(sign in source for sign in "*?["):
        raise ValueError(f"--check: {source} does not exist; give synthetic images or image files")
    preprocessing = student.preprocessing
    pixels = [
        read_image(path, preprocessing)
        for path, _ in zip(image_paths([source]), range(count), strict=False)
    ]
    return preprocessing.normalize(torch.stack(pixels))
