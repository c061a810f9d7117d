"""``dynadfq quantize``: a float network in, a quantized ONNX file out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dynadfq.cli.network import FloatNetwork, Seed, with_network
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, print_json, print_table

NAME = "quantize"
EXAMPLES = """\b
Examples:
  dynadfq quantize torchvision/resnet50 --checkpoint w.pth --to int8.onnx
  dynadfq quantize artifacts/teacher --effort seconds --input uint8 --to int8.onnx
  dynadfq quantize my_pkg.models:build --checkpoint w.pth --input-shape 3,224,224 \\
      --num-classes 10 --weights 4 --effort minutes --data photographs/ --to out/

\b
Writes the ONNX file, a JSON file that says how images are prepared, and a model card; in a folder
also the student for torch. If the command is killed, run it again: it goes on where it stopped."""

To = Annotated[
    Path, typer.Option(help="A file such as int8.onnx, or a folder.", show_default=False)
]
Weights = Annotated[
    int,
    typer.Option(
        min=2,
        max=8,
        help="Bits of weights; with up to 4, layers that lose most get 8, unless --uniform or "
        "--effort seconds.",
    ),
]
Uniform = Annotated[bool, typer.Option("--uniform", help="The same bits in all layers.")]
Activations = Annotated[
    int,
    typer.Option(
        min=2, max=8, help="Bits of activations; Python's quantize can leave them float (32)."
    ),
]
EffortOption = Annotated[
    Literal["seconds", "minutes", "hours"],
    typer.Option(
        help="No images; synthetic images for calibration and rounding; or also fine-tuning."
    ),
]
Data = Annotated[
    Path | None, typer.Option(help="Labelled images <class>/<image>, to measure accuracy on.")
]
Classes = Annotated[
    Path | None,
    typer.Option(help="File that says which class each folder of --data is."),
]
InputOption = Annotated[
    Literal["float32", "uint8"],
    typer.Option(help="What the file reads: normalized values, or pixels that it normalizes."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@with_network
def run(
    network: FloatNetwork,
    to: To,
    weights: Weights = 8,
    activations: Activations = 8,
    effort: EffortOption = "minutes",
    data: Data = None,
    classes: Classes = None,
    input: InputOption = "float32",
    device: Device = "auto",
    uniform: Uniform = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Quantize a network without data, to an ONNX file that integer engines run.

    The file is checked before it is written, and compared with the float network.
    """
    from dynadfq.deploy.measure import HEAD
    from dynadfq.deploy.quantize_model import quantize_model
    from dynadfq.runtime.device import resolve

    if classes is not None and data is None:
        raise ValueError("--classes: says which class each folder of --data is; give --data too")
    with options_named():
        teacher = network.load()
        made = quantize_model(
            teacher.to(resolve(device)),
            to,
            weights,
            activations,
            effort,
            data,
            classes,
            input,
            seed,
            uniform,
            lambda line: typer.echo(line, err=as_json),
        )
    if as_json:
        measured = made.measured
        print_json(
            {
                "path": str(made.path),
                "card": str(made.card),
                "bytes": measured.export.size,
                "float_bytes": measured.float_bytes,
                "agreement": measured.agreement,
                "images": measured.images,
                "classes": measured.classes,
                "top1": measured.top1,
                "float_top1": measured.float_top1,
                "times": measured.export.times,
                "remarks": measured.export.remarks(),
            }
        )
        return
    print_table(HEAD, made.measured.rows())
    for line in made.measured.export.remarks():
        typer.echo(f"  {line}")
    typer.echo(f"{made.path}, {made.path.with_suffix('.json').name}, {made.card.name}")
