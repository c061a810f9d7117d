"""``dynadfq predict``: class, probability and bits spent for image files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynadfq.cli.images import image_paths
from dynadfq.cli.models import Model, description, load
from dynadfq.cli.output import AsJson, print_json

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
An image is scaled as the network's description says, and its middle is cut out. A file that cannot
be read is reported on stderr, the others are predicted, and the exit status is 1."""
LONGEST_NAME = 24

Images = Annotated[
    list[str], typer.Argument(metavar="IMAGES...", help="Files, folders, patterns, or - for stdin.")
]
Top = Annotated[int, typer.Option(min=1, help="Classes to show for an image.")]
Multiplier = Annotated[
    float | None, typer.Option(help="Multiplier on bit-FLOPs; left out, the student's own.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time; no result depends on it.")]


def run(
    model: Model,
    images: Images,
    top: Top = 1,
    multiplier: Multiplier = None,
    batch_size: BatchSize = 32,
    as_json: AsJson = False,
) -> None:
    """Predict the class of images.

    With its probability, and what the image cost: the mean width of its activations in bits, and
    bit-FLOPs in percent of the float network's.
    """
    loaded = load(model)
    network = _Predictor(loaded, multiplier, top)
    paths, answers, unreadable = image_paths(images), list[dict[str, Any]](), False
    while batch := list(islice(paths, batch_size)):
        read = list(_readable(batch, network.preprocessing))
        unreadable |= len(read) < len(batch)
        for answer in network.answers(read):
            if not as_json:
                typer.echo(
                    network.line(answer) if answers else f"{network.head}\n{network.line(answer)}"
                )
            answers.append(answer)
    if as_json:
        print_json(answers)
    if unreadable:
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
        from dynadfq.quant.model import Student

        self.model, self.preprocessing = model, model.preprocessing
        self.names: list[str] = description(model)["class_names"]
        self.top = min(top, len(self.names))
        self.width = min(max(map(len, [*self.names, "class"])), LONGEST_NAME)
        self.codes = None
        if isinstance(model, Student):
            from dynadfq.export.integer_form import to_integer_form

            if multiplier is not None:
                model.multiplier = multiplier
            self.codes = to_integer_form(model)
        elif multiplier is not None:
            raise ValueError(
                "--multiplier: a teacher computes in floats and has no widths to choose"
            )

    def answers(self, read: list[tuple[Path, Tensor]]) -> Iterator[dict[str, Any]]:
        """One answer an image."""
        import torch

        if not read:
            return
        pixels = torch.stack([image for _, image in read])
        logits, bits, percent = self._run(self.preprocessing.normalize(pixels))
        best = logits.double().softmax(dim=1).topk(self.top)
        for i, (path, _) in enumerate(read):
            classes = [
                {"class": self.names[k], "index": k, "probability": p}
                for k, p in zip(best.indices[i].tolist(), best.values[i].tolist(), strict=True)
            ]
            yield {
                "file": str(path),
                **classes[0],
                **({"top": classes} if self.top > 1 else {}),
                "mean_bits": bits[i].double().mean().item(),
                "bit_flops_percent": percent[i].item(),
                "bits": bits[i].int().tolist(),
            }

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, bits at each site, and cost in percent of the float model."""
        import torch

        if self.codes is None:
            with torch.no_grad():
                logits = self.model(images)
            return logits, torch.full((len(images), 1), 32.0), torch.full((len(images),), 100.0)
        logits, bits = self.codes.run(images)
        return logits, bits, self.model.bit_flops_percent(bits)  # type: ignore[union-attr]

    @property
    def head(self) -> str:
        """What stands above the lines."""
        return f"{'class':<{self.width}}  probability  mean bits  bit-FLOPs %  file"

    def line(self, answer: dict[str, Any]) -> str:
        """An answer as a line of text; further classes are on lines of their own."""
        head = f"{self._name(answer['class'])}  {100 * answer['probability']:9.2f} %"
        rest = f"{answer['mean_bits']:9.2f}  {answer['bit_flops_percent']:11.2f}  {answer['file']}"
        more = [
            f"{self._name(one['class'])}  {100 * one['probability']:9.2f} %"
            for one in answer.get("top", [])[1:]
        ]
        return "\n".join([f"{head}  {rest}", *more])

    def _name(self, name: str) -> str:
        return (name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…").ljust(
            self.width
        )
