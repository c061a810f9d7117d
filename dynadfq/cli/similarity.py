"""``dynadfq similarity``: which classes resemble each other, from the classifier's weights."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dynadfq.cli.models import Model, Trust, description, load
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, print_json, print_table

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.quant.model import Student
    from dynadfq.teacher.teacher import Teacher

NAME = "similarity"
EXAMPLES = """\b
Examples:
  dynadfq similarity artifacts/teacher
  dynadfq similarity artifacts/teacher --class cat --top 5 --measure centred
  dynadfq similarity artifacts/student --json      # approximate: from weights of a few bits"""
HEAD = ("class", "rank", "similar", "similarity")

Top = Annotated[int, typer.Option(min=1, help="Number of similar classes to list for each class.")]
Only = Annotated[
    list[str] | None, typer.Option("--class", help="List this class only; repeat it for more.")
]
MeasureOption = Annotated[
    Literal["dot", "cosine", "centred"],
    typer.Option(
        help="Inner product of weight rows as in the paper, their cosine, or the cosine after "
        "subtracting their mean."
    ),
]


def run(
    model: Model,
    top: Top = 3,
    only: Only = None,
    measure: MeasureOption = "dot",
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """List the most similar classes of each class.

    Similarity compares the rows of the classification layer's weights, one per class (DynaDFQ,
    Eq. 5).
    """
    from dynadfq.teacher.similarity import similarity_of_weights, top_similar

    loaded = load(model, trust)
    names: list[str] = list(description(loaded)["class_names"])
    for name in only or ():
        if name not in names:
            [nearest] = get_close_matches(name, names, n=1, cutoff=0.0)
            raise ValueError(f"--class: {name!r} is not a class of {model}; nearest: {nearest}")
    with options_named(num_classes="MODEL"):
        weights = _class_weights(loaded)
    found = top_similar(similarity_of_weights(weights, measure), names, top)
    rows = [row for row in found if not only or row[0] in only]
    if as_json:
        print_json([dict(zip(HEAD, row, strict=True)) for row in rows])
    else:
        print_table(HEAD, rows)


def _class_weights(model: Student | Teacher) -> Tensor:
    from torch import nn

    from dynadfq.quant.model import Student
    from dynadfq.teacher.classifier import class_weights

    if not isinstance(model, Student):
        return model.class_weights
    classes: Any = model.description["num_classes"]
    return class_weights(nn.ModuleList(model.layers), classes)  # without the selector's layers
