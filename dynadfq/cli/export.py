"""``dynadfq export``: write a student as a file that runs without this library."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dynadfq.cli.images import image_paths, is_pattern
from dynadfq.cli.models import StudentModel, Trust, load_only_student
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, output_file, print_json

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.quant.model import Student

NAME = "export"
SUFFIXES = {"qdq": "-qdq.onnx", "onnx": ".onnx", "pt2": ".pt2"}
EXAMPLES = """\b
Examples:
  dynadfq export artifacts/student --to qdq --input uint8
  dynadfq export artifacts/student --to onnx -o student-codes.onnx
  dynadfq export artifacts/student --to pt2 --check photographs/ --check-images 256

\b
qdq is for integer engines such as onnxruntime and OpenVINO, of students with
quantization.scheme: integer. onnx and pt2 are for research: they hold per-image widths, and
multiply integers in float32. An engine that computes in bfloat16 makes them wrong: choose float32.

\b
The file is written only if it computes what the student computes on the check images: the same
class for 99.8 % of them (qdq), the same bit-widths, and logits within 1e-4 (onnx) or equal (pt2).
These are synthetic images by default."""

To = Annotated[
    Literal["qdq", "onnx", "pt2"] | None,
    typer.Option(
        help="ONNX for integer engines, ONNX of codes in floats, a torch.export program; by "
        "default qdq for scheme integer, onnx otherwise."
    ),
]
Input = Annotated[
    Literal["float32", "uint8"],
    typer.Option(help="qdq: the file reads normalized images, or pixels."),
]
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
    to: To = None,
    output: Output = None,
    check: Check = "artifacts/synthetic",
    check_images: Count = 64,
    input: Input = "float32",
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Write a student as ONNX or as a torch.export program.

    The file is checked against the student before it is written.
    """
    from dynadfq.export.conversion_report import in_floats
    from dynadfq.export.onnx_export import export_onnx
    from dynadfq.export.program import export_program
    from dynadfq.export.qdq import export_qdq

    student = load_only_student(model, trust)
    to = to or ("qdq" if student.scheme.integer else "onnx")
    if to != "qdq" and input != "float32":
        raise typer.BadParameter("is for --to qdq only", param_hint=f"--input {input}")
    beside = model.resolve().with_name(f"{model.resolve().name}{SUFFIXES[to]}")
    path = output_file(output or beside, "--output")
    images = _images(student, check, check_images)
    found: dict[str, object] = {"model": str(model), "path": str(path), "check_images": len(images)}
    with options_named(path="--output", images="--check"):
        if to == "qdq":
            qdq = export_qdq(student, path, images, input)
            found |= {
                "worst_logit_difference": qdq.agreement.worst,
                "same_class": qdq.agreement.same_class,
                "times": list(qdq.times),
            }
            not_integer = qdq.remarks()
        elif to == "onnx":
            export = export_onnx(student, path, images)
            found["worst_logit_difference"] = export.worst
            not_integer = in_floats(export.facts)
        else:
            not_integer = in_floats(export_program(student, path, images).facts)
    size = path.stat().st_size
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
    from dynadfq.synthesis.dataset import SyntheticSet
    from dynadfq.synthesis.manifest import MANIFEST

    if (Path(source) / MANIFEST).exists():
        synthetic = SyntheticSet(source)
        return synthetic.take(torch.arange(min(count, len(synthetic)))).images
    if not Path(source).exists() and not is_pattern(source):
        raise ValueError(f"--check: {source} does not exist; give synthetic images or image files")
    preprocessing = student.preprocessing
    with options_named(IMAGES="--check"):
        paths = islice(image_paths([source]), count)
        pixels = torch.stack([read_image(path, preprocessing) for path in paths])
    return preprocessing.normalize(pixels)
