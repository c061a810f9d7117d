"""``dynadfq bench``: measured time, and bit-FLOPs as a model of cost, beside the float network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynadfq.cli.models import Model, Trust, description, load
from dynadfq.cli.output import AsJson, Cell, print_json, print_table
from dynadfq.export import Engine

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.export.engines import Runner
    from dynadfq.quant.model import Student
    from dynadfq.teacher.teacher import Teacher

NAME = "bench"
EXAMPLES = """\b
Examples:
  dynadfq bench artifacts/student
  dynadfq bench artifacts/student --batch 1 --batch 32 --repeats 50 --threads 4 --engine torch
  dynadfq bench artifacts/student --json > bench.json

\b
Images are noise; times hardly depend on them. All networks run on this machine's CPU, in turn:
"torch" is the float network and the student's integer form, "onnxruntime" both as ONNX, and the QDQ
file of a student of scheme integer. Fewer bits are not faster: bit-FLOPs are the work of hardware
made for these bit-widths, milliseconds the time on this machine."""
HEAD = ("network", "batch", "ms per image", "quartiles", "best", "to float", "bit-FLOPs %")

BATCHES = [1, 32]  # images
ENGINES = list(Engine)

Batch = Annotated[
    list[int], typer.Option(min=1, help="Images per batch; repeat it for more than one size.")
]
Repeats = Annotated[int, typer.Option(min=2, help="Timed runs, after two that are not timed.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that an engine may use.")]
Engines = Annotated[
    list[Engine], typer.Option("--engine", help="Engine to run in; repeat it for more than one.")
]


def run(
    model: Model,
    batch: Batch = BATCHES,
    repeats: Repeats = 20,
    threads: Threads = 1,
    engine: Engines = ENGINES,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Time a student beside its float network.

    Times are medians with quartiles over the repeats. A teacher is timed alone, in torch. An engine
    that is not available is left out, with the reason on stderr.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        loaded = load(model, trust)
        networks = _runners(loaded, engine, threads)
        rows = [row for size in batch for row in _rows(loaded, networks, size, repeats)]
    finally:
        torch.set_num_threads(before)
    if as_json:
        print_json(
            {"model": str(model), "threads": threads, "torch": torch.__version__, "times": rows}
        )
    else:
        print_table(HEAD, [_cells(row) for row in rows])


def _runners(model: Student | Teacher, engines: Sequence[Engine], threads: int) -> list[Runner]:
    """The networks to time; a float network comes before the student in its engine."""
    from dynadfq.export.engines import Runner, runners
    from dynadfq.export.integer_form import to_integer_form
    from dynadfq.quant.model import Student
    from dynadfq.zoo.architectures import build

    if not isinstance(model, Student):
        return [Runner("float", "float", lambda images: (model(images),))]
    channels = model.cost.trace.input_shape[0]
    known = model.description
    float_network = build(known["architecture"], channels, known["num_classes"]).eval()
    integer_form = to_integer_form(model)
    found: dict[str, Runner] = {}
    for engine in engines:
        try:
            for runner in runners(model, float_network, integer_form, engine, threads):
                found.setdefault(runner.name, runner)
        except ImportError as error:
            typer.echo(f"left out {engine.value}: {error}", err=True)
    return list(found.values())


def _rows(
    model: Student | Teacher, networks: list[Runner], size: int, repeats: int
) -> list[dict[str, Any]]:
    """One row per network at a batch size."""
    import torch

    from dynadfq.runtime.timing import interleaved

    shape = description(model)["input_shape"]
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        calls = {network.name: partial(network.run, images) for network in networks}
        times = interleaved(calls, repeats)
        percent = {name: _percent(model, call()) for name, call in calls.items()}
    rows = []
    for network in networks:
        time = times[network.name]
        rows.append(
            {
                "network": network.name,
                "batch": size,
                "ms_per_image": 1000 * time.median / size,
                "lower_quartile": 1000 * time.lower_quartile / size,
                "upper_quartile": 1000 * time.upper_quartile / size,
                "best": 1000 * time.best / size,
                "to_float": time.median / times[network.float_name].median,
                "bit_flops_percent": percent[network.name],
                "repeats": repeats,
            }
        )
    return rows


def _percent(model: Any, result: tuple[Tensor, ...]) -> float:
    """Mean bit-FLOPs in percent of the float network's, from what a network returned."""
    if len(result) == 1:  # a float network returns logits only
        return 100.0
    return float(model.bit_flops_percent(result[1].float()).mean())


def _cells(row: dict[str, Any]) -> tuple[Cell, ...]:
    return (
        row["network"],
        row["batch"],
        row["ms_per_image"],
        f"{row['lower_quartile']:.2f} … {row['upper_quartile']:.2f}",
        row["best"],
        row["to_float"],
        row["bit_flops_percent"],
    )
