"""``dynadfq predict``: class, probability and cost of image files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynadfq.cli.images import image_paths
from dynadfq.cli.models import BatchSize, Model, Trust, description, load
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, Cell, print_json, print_table

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.ops.preprocess import Preprocessing
    from dynadfq.quant.model import Student
    from dynadfq.teacher.teacher import Teacher

NAME = "predict"
EXAMPLES = """\b
Examples:
  dynadfq predict artifacts/student cat.png dog.jpg
  dynadfq predict artifacts/student photographs/ --top 3
  dynadfq predict artifacts/student 'photographs/**/*.jpg' --json
  find . -name '*.png' | dynadfq predict artifacts/student -
  dynadfq predict artifacts/student cat.png --multiplier 50    # cheaper (see dynadfq budget)

\b
Images are resized and center-cropped as the network's description says. A file that cannot be read
is reported on stderr, the others are predicted, and the exit status is 1."""
LONGEST_NAME = 24  # characters of a class name in the table
HEAD = ("class", "probability %", "mean bits", "bit-FLOPs %", "file")

Images = Annotated[
    list[str], typer.Argument(metavar="IMAGES...", help="Files, folders, patterns, or - for stdin.")
]
Top = Annotated[int, typer.Option(min=1, help="Number of classes to show for an image.")]
Multiplier = Annotated[
    float | None,
    typer.Option(help="Lagrange multiplier on bit-FLOPs; the student's own by default."),
]


def run(
    model: Model,
    images: Images,
    top: Top = 1,
    multiplier: Multiplier = None,
    batch_size: BatchSize = 32,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Predict the classes of images.

    Shows the probability of the class, the mean bit-width of the activations, and the bit-FLOPs in
    percent of the float network's.
    """
    loaded = load(model, trust)
    with options_named(multiplier="--multiplier"):
        predictor = _Predictor(loaded, multiplier, top)
    paths = image_paths(images)
    predictions: list[dict[str, Any]] = []
    failed = False
    while batch := list(islice(paths, batch_size)):
        read = list(_readable(batch, predictor.preprocessing))
        failed |= len(read) < len(batch)
        if not read:
            continue
        found = predictor.predict(read)
        failed |= len(found) < len(read)
        if found and not as_json:
            rows = [row for prediction in found for row in predictor.rows(prediction)]
            print_table(HEAD, rows, with_head=not predictions)
        predictions += found
    if as_json:
        print_json(predictions)
    if failed:
        raise typer.Exit(1)


def _readable(paths: list[Path], preprocessing: Preprocessing) -> Iterator[tuple[Path, Tensor]]:
    from dynadfq.ops.preprocess import read_image

    for path in paths:
        try:
            yield path, read_image(path, preprocessing)
        except (ValueError, OSError) as error:
            print(f"dynadfq: IMAGES: {error}", file=sys.stderr)


class _Predictor:
    """A loaded model with its preprocessing and class names."""

    def __init__(self, model: Student | Teacher, multiplier: float | None, top: int) -> None:
        from dynadfq.export.integer_form import to_integer_form
        from dynadfq.quant.model import Student

        self.model = model
        self.preprocessing = model.preprocessing
        self.names: list[str] = description(model)["class_names"]
        self.top = min(top, len(self.names))
        self.integer_form = None
        if isinstance(model, Student):
            if multiplier is not None:
                model.multiplier = multiplier
            self.integer_form = to_integer_form(model)
        elif multiplier is not None:
            raise ValueError(
                "--multiplier: a teacher has no bit-widths to choose; give a student instead"
            )

    def predict(self, read: list[tuple[Path, Tensor]]) -> list[dict[str, Any]]:
        """Return one prediction per image; an image whose logits are no numbers is reported."""
        import torch

        from dynadfq.quant.bits import widths_or_float

        pixels = torch.stack([image for _, image in read])
        logits, bits, percent = self._run(self.preprocessing.normalize(pixels))
        best = logits.double().softmax(dim=1).topk(self.top)
        finite = logits.isfinite().all(dim=1).tolist()
        mean_bits = widths_or_float(bits.double()).mean(dim=1)
        predictions = []
        for i, (path, _) in enumerate(read):
            if not finite[i]:
                print(
                    f"dynadfq: IMAGES: {path}: the network's logits are NaN or infinite; "
                    "check its weights with dynadfq inspect",
                    file=sys.stderr,
                )
                continue
            classes = [
                {"class": self.names[k], "index": k, "probability": probability}
                for k, probability in zip(
                    best.indices[i].tolist(), best.values[i].tolist(), strict=True
                )
            ]
            predictions.append(
                {
                    "file": str(path),
                    **classes[0],
                    **({"top": classes} if self.top > 1 else {}),
                    "mean_bits": mean_bits[i].item(),
                    "bit_flops_percent": percent[i].item(),
                    "bits": bits[i].int().tolist(),
                }
            )
        return predictions

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, bits at each site, and cost in percent of the float network."""
        import torch

        if self.integer_form is None:
            with torch.no_grad():
                logits = self.model(images)
            return logits, torch.full((len(images), 1), 32.0), torch.full((len(images),), 100.0)
        logits, bits = self.integer_form.run(images)
        return logits, bits, self.model.bit_flops_percent(bits)  # type: ignore[union-attr]

    def rows(self, prediction: dict[str, Any]) -> Iterator[tuple[Cell, ...]]:
        """Yield the table's row of a prediction, and one for each further class."""
        first, *others = prediction.get("top", [prediction])
        cost = (prediction["mean_bits"], prediction["bit_flops_percent"], prediction["file"])
        yield (self._name(first["class"]), 100 * first["probability"], *cost)
        for other in others:
            yield (self._name(other["class"]), 100 * other["probability"], None, None, None)

    def _name(self, name: str) -> str:
        """A class name, cut or filled to the same width in every batch."""
        width = min(max(map(len, self.names)), LONGEST_NAME)
        if len(name) > width:
            name = name[: width - 1] + "…"
        return name.ljust(width)
