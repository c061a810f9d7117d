"""``dynadfq export``: write a student as a file that runs without this library."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dynadfq.cli.images import image_paths, is_pattern
from dynadfq.cli.models import StudentModel, load_only_student
from dynadfq.cli.output import AsJson, print_json

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.quant.model import Student

NAME = "export"
EXAMPLES = """\b
Examples:
  dynadfq export artifacts/student --to onnx
  dynadfq export artifacts/student --to pt2 --check photographs/ --check-images 256

\b
The file is written only if it computes what the student computes on the check images: the same
bit-widths, and logits within 1e-4 (onnx) or equal (pt2). These are synthetic images by default."""

To = Annotated[Literal["onnx", "pt2"], typer.Option(help="ONNX, or a torch.export program.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="The file; by default beside MODEL, such as artifacts/student.onnx."
    ),
]
Check = Annotated[
    str, typer.Option(help="Synthetic images, or a folder or pattern of image files.")
]
Count = Annotated[int, typer.Option(min=1, help="Number of images to check on.")]


def run(
    model: StudentModel,
    to: To = "onnx",
    output: Output = None,
    check: Check = "artifacts/synthetic",
    check_images: Count = 64,
    as_json: AsJson = False,
) -> None:
    """Write a student as ONNX or as a torch.export program.

    The file is checked against the student before it is written.
    """
    from dynadfq.export.onnx_export import export_onnx
    from dynadfq.export.program import export_program

    path = output or model.resolve().with_name(f"{model.resolve().name}.{to}")
    if path.is_dir():
        raise ValueError(f"--output: {path} is a folder; name a file")
    student = load_only_student(model)
    images = _images(student, check, check_images)
    found: dict[str, object] = {"model": str(model), "path": str(path), "check_images": len(images)}
    if to == "onnx":
        export = export_onnx(student, path, images)
        found["worst_logit_difference"] = export.worst
        facts = export.facts
    else:
        facts = export_program(student, path, images).facts
    size = path.stat().st_size
    not_integer = [str(fact) for fact in facts if not fact.exact]
    if as_json:
        print_json(found | {"bytes": size, "not_integer": not_integer})
    else:
        typer.echo(f"{path}: {size:,} bytes, checked on {len(images)} images")
        for line in not_integer:
            typer.echo(f"  {line}")


def _images(student: Student, source: str, count: int) -> Tensor:
    """The first images of the source, normalized, (B, C, H, W)."""
    import torch

    from dynadfq.ops.preprocess import read_image
    from dynadfq.synthesis.dataset import MANIFEST, SyntheticSet

    if (Path(source) / MANIFEST).exists():
        synthetic = SyntheticSet(source)
        return synthetic.take(torch.arange(min(count, len(synthetic)))).images
    if not Path(source).exists() and not is_pattern(source):
        raise ValueError(f"--check: {source} does not exist; give synthetic images or image files")
    preprocessing = student.preprocessing
    paths = islice(image_paths([source]), count)
    pixels = torch.stack([read_image(path, preprocessing) for path in paths])
    return preprocessing.normalize(pixels)
