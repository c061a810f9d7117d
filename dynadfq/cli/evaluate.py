"""``dynadfq evaluate``: accuracy on labelled image files."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Annotated

import typer

from dynadfq.cli.models import BatchSize, Model, Trust, description, load
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, Cell, output_file, print_json, print_table

NAME = "evaluate"
EXAMPLES = """\b
Examples:
  dynadfq evaluate artifacts/student data/imagenet
  dynadfq evaluate artifacts/student photographs/ --images 500 --teacher artifacts/teacher
  dynadfq evaluate artifacts/student data/imagenet --classes class_index.json --card card.md

\b
FOLDER holds FOLDER/<class>/<image>, or such folders in FOLDER/val or FOLDER/test. Class folders are
matched with the network's classes by name, or by --classes."""

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Images in one folder per class.")]
Count = Annotated[
    int | None, typer.Option(min=1, help="Images to measure, evenly spaced; all by default.")
]
Classes = Annotated[
    Path | None,
    typer.Option(help="File that says which class each folder is, such as class_index.json."),
]
TeacherFolder = Annotated[
    Path | None, typer.Option(help="Folder of the float network, to measure the agreement with it.")
]
Card = Annotated[
    Path | None,
    typer.Option(help="Write the student's model card with the result to this file."),
]
Bits = Annotated[
    int | None,
    typer.Option(min=2, max=8, help="One activation width for all images, not the student's own."),
]


def run(
    model: Model,
    folder: Folder,
    images: Count = None,
    classes: Classes = None,
    teacher: TeacherFolder = None,
    card: Card = None,
    bits: Bits = None,
    batch_size: BatchSize = 64,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Measure top-1 accuracy and bit-FLOPs on labelled images.

    The standard error is that of a mean over as many images.
    """
    from dynadfq.data.config import IMAGE_FOLDER
    from dynadfq.data.loading import open_labelled
    from dynadfq.evaluation.card import write_card
    from dynadfq.evaluation.evaluate import evaluate
    from dynadfq.teacher.teacher import Teacher

    target = None if card is None else output_file(card, "--card")
    loaded = load(model, trust)
    if target is not None and isinstance(loaded, Teacher):
        raise ValueError("--card: a teacher has no model card; give a student as MODEL")
    if bits is not None and isinstance(loaded, Teacher):
        raise ValueError("--bits: a teacher has no widths; give a student as MODEL")
    if bits is not None and card is not None:
        raise ValueError("--bits: a model card shows the student's own widths; leave out --card")
    with options_named(MODEL="--teacher"):
        float_network = None if teacher is None else load(teacher, trust)
    if float_network is not None and not isinstance(float_network, Teacher):
        raise ValueError(f"--teacher: {teacher} holds a student; give the folder of a teacher")
    with options_named(root="FOLDER"):
        labelled = open_labelled(
            IMAGE_FOLDER,
            folder,
            preprocessing=loaded.preprocessing,
            count=images,
            class_names=description(loaded)["class_names"],
            class_file=classes,
        )
    with options_named(teacher="--teacher", bits="--bits"):
        found = evaluate(loaded, labelled.batches(batch_size), float_network, bits)
    assert found.top1 is not None
    if target is not None:
        write_card(model, found, str(folder), target)
    share = found.top1 / 100
    facts: dict[str, Cell] = {
        "model": str(model),
        "images": len(labelled),
        "classes": None if labelled.classes is None else labelled.classes.origin,
        "top1": found.top1,
        "top1_standard_error": 100 * sqrt(share * (1 - share) / len(labelled)),
        "agreement": found.agreement,
        "bits": bits,
        "bit_flops_percent": found.bit_flops_percent,
        "mean_activation_bits": found.mean_activation_bits,
    }
    if as_json:
        return print_json(facts)
    rows = [(name.replace("_", " "), value) for name, value in facts.items() if value is not None]
    print_table(("", ""), rows, with_head=False)
