"""``dynadfq bench``: time as time, and bit-FLOPs as a model of cost, beside the float network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynadfq.cli.models import Model, load
from dynadfq.cli.output import AsJson, print_json, table

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.quant.model import Student
    from dynadfq.teacher import Teacher

NAME = "bench"
EXAMPLES = """\b
Examples:
  dynadfq bench artifacts/student
  dynadfq bench artifacts/student --batch 1 --batch 32 --repeats 50 --threads 4
  dynadfq bench artifacts/student --json > bench.json

\b
Images are noise, which times hardly depend on. Both networks run in torch on this machine's CPU,
in turn. Code form holds integer codes in floats, so lower widths are not faster in it: bit-FLOPs
tell what hardware for these widths would have to do, milliseconds what this machine did."""
HEAD = ("network", "batch", "ms an image", "quartiles", "best", "to float", "bit-FLOPs %")

BATCHES = [1, 32]  # images

Batch = Annotated[list[int], typer.Option(min=1, help="Images at a time; repeat it for more than one.")]
Repeats = Annotated[int, typer.Option(min=2, help="Runs that are timed, after two that are not.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that torch may use.")]


def run(
    model: Model, batch: Batch = BATCHES, repeats: Repeats = 20, threads: Threads = 1, as_json: AsJson = False
) -> None:
    """Time a student beside its float network.

    Each time is a median with quartiles over the repeats; a teacher is timed alone.
    """
    import torch

    networks = _networks(load(model))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = [row for size in batch for row in _rows(networks, size, repeats)]
    finally:
        torch.set_num_threads(before)
    if as_json:
        return print_json({"model": str(model), "threads": threads, "torch": torch.__version__, "times": rows})
    typer.echo(table(HEAD, [_line(row) for row in rows]))


def _networks(model: Student | Teacher) -> list[tuple[str, Callable[[Tensor], object], float, tuple[int, ...]]]:
    """Name, function, bit-FLOPs in percent and input shape of what is compared; the float network comes first."""
    from dynadfq.deploy.codes import to_codes
    from dynadfq.models.zoo import build
    from dynadfq.quant.model import Student

    if not isinstance(model, Student):
        return [("float", model, 100.0, model.input_shape)]
    known, shape = model.description, model.cost.trace.input_shape
    network = build(known["architecture"], shape[0], known["num_classes"]).eval()  # weights do not change the time
    target = model.cost.at(model.scheme.target_bits).percent
    return [("float", network, 100.0, shape), ("student, code form", to_codes(model), target, shape)]


def _rows(
    networks: list[tuple[str, Callable[[Tensor], object], float, tuple[int, ...]]], size: int, repeats: int
) -> list[dict[str, Any]]:
    import torch

    from dynadfq.timing import interleaved

    images = torch.randn(size, *networks[0][3], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        times = interleaved({name: partial(function, images) for name, function, _, _ in networks}, repeats)
    reference = times[networks[0][0]].median
    return [
        {
            "network": name,
            "batch": size,
            "ms_per_image": 1000 * times[name].median / size,
            "lower_quartile": 1000 * times[name].lower_quartile / size,
            "upper_quartile": 1000 * times[name].upper_quartile / size,
            "best": 1000 * times[name].best / size,
            "to_float": times[name].median / reference,
            "bit_flops_percent": percent,
            "repeats": repeats,
        }
        for name, _, percent, _ in networks
    ]


def _line(row: dict[str, Any]) -> tuple[str | int | float, ...]:
    spread = f"{row['lower_quartile']:.2f} … {row['upper_quartile']:.2f}"
    ends = (row["best"], row["to_float"], row["bit_flops_percent"])
    return (row["network"], row["batch"], row["ms_per_image"], spread, *ends)
