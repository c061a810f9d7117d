"""``dynadfq bench``: time as time, and bit-FLOPs as a model of cost, beside the float network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from dynadfq.cli.models import Model, load
from dynadfq.cli.output import AsJson, print_json, table
from dynadfq.export import Engine

if TYPE_CHECKING:
    from torch import Tensor

    from dynadfq.quant.model import Student
    from dynadfq.teacher.teacher import Teacher

NAME = "bench"
EXAMPLES = """\b
Examples:
  dynadfq bench artifacts/student
  dynadfq bench artifacts/student --batch 1 --batch 32 --repeats 50 --threads 4 --engine torch
  dynadfq bench artifacts/student --json > bench.json

\b
Images are noise, which times hardly depend on. All networks run on this machine's CPU, in turn:
"torch" is the float network and integer form, "kernels" integer form on 8-bit instructions, compiled
(which takes a minute first), "onnxruntime" both as ONNX. Neither floats that hold codes nor 8-bit
instructions are faster at lower widths: bit-FLOPs tell what hardware for these widths would have
to do, milliseconds what this machine did."""
HEAD = ("network", "batch", "ms an image", "quartiles", "best", "to float", "bit-FLOPs %")

BATCHES = [1, 32]  # images
ENGINES = list(Engine)

Batch = Annotated[
    list[int], typer.Option(min=1, help="Images at a time; repeat it for more than one.")
]
Repeats = Annotated[int, typer.Option(min=2, help="Runs that are timed, after two that are not.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that an engine may use.")]
Engines = Annotated[
    list[Engine], typer.Option("--engine", help="What to run in; repeat it for more than one.")
]


def run(
    model: Model,
    batch: Batch = BATCHES,
    repeats: Repeats = 20,
    threads: Threads = 1,
    engine: Engines = ENGINES,
    as_json: AsJson = False,
) -> None:
    """Time a student beside its float network.

    Each time is a median with quartiles over the repeats; a teacher is timed alone, in torch. An
    engine that is not there is left out, with a line that says why.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        networks = _networks(load(model), engine, threads)
        rows = [row for size in batch for row in _rows(networks, size, repeats)]
    finally:
        torch.set_num_threads(before)
    if as_json:
        return print_json(
            {"model": str(model), "threads": threads, "torch": torch.__version__, "times": rows}
        )
    typer.echo(table(HEAD, [_line(row) for row in rows]))


class Network(NamedTuple):
    """What is timed; ``float_name`` is the float network in the same engine, ``percent`` the
    bit-FLOPs of an answer.
    """

    name: str
    float_name: str
    run: Callable[[Tensor], Sequence[Tensor]]
    percent: Callable[[Sequence[Tensor]], float]
    shape: tuple[int, ...]


def _networks(model: Student | Teacher, engines: Sequence[Engine], threads: int) -> list[Network]:
    """What is compared; a float network comes before the student in its engine."""
    from dynadfq.export.engines import runners
    from dynadfq.export.integer_form import to_integer_form
    from dynadfq.quant.model import Student
    from dynadfq.zoo.architectures import build

    if not isinstance(model, Student):
        return [
            Network(
                "float",
                "float",
                lambda images: (model(images),),
                lambda _: 100.0,
                model.input_shape,
            )
        ]
    known, shape = model.description, model.cost.trace.input_shape
    float_network = build(
        known["architecture"], shape[0], known["num_classes"]
    ).eval()  # weights do not change times
    codes = to_integer_form(model)

    def percent(answer: Sequence[Tensor]) -> float:
        """Of what the images chose, where there are widths beside the logits."""
        return (
            float(model.bit_flops_percent(answer[1].float()).mean()) if len(answer) > 1 else 100.0
        )

    found: dict[str, Network] = {}
    for engine in engines:
        try:
            for name, float_name, function in runners(model, float_network, codes, engine, threads):
                found[name] = found.get(name) or Network(name, float_name, function, percent, shape)
        except (ImportError, RuntimeError) as error:
            typer.echo(f"left out {engine.value}: {error}", err=True)
    return list(found.values())


def _rows(networks: list[Network], size: int, repeats: int) -> list[dict[str, Any]]:
    import torch

    from dynadfq.runtime.timing import interleaved

    if not networks:
        return []
    images = torch.randn(size, *networks[0].shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        times = interleaved(
            {network.name: partial(network.run, images) for network in networks}, repeats
        )
        percent = {network.name: network.percent(network.run(images)) for network in networks}
    return [
        {
            "network": network.name,
            "batch": size,
            "ms_per_image": 1000 * times[network.name].median / size,
            "lower_quartile": 1000 * times[network.name].lower_quartile / size,
            "upper_quartile": 1000 * times[network.name].upper_quartile / size,
            "best": 1000 * times[network.name].best / size,
            "to_float": times[network.name].median / times[network.float_name].median,
            "bit_flops_percent": percent[network.name],
            "repeats": repeats,
        }
        for network in networks
    ]


def _line(row: dict[str, Any]) -> tuple[str | int | float, ...]:
    spread = f"{row['lower_quartile']:.2f} … {row['upper_quartile']:.2f}"
    ends = (row["best"], row["to_float"], row["bit_flops_percent"])
    return (row["network"], row["batch"], row["ms_per_image"], spread, *ends)
