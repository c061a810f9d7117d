"""``dynadfq calibrate``: synthetic images for the calibration of any other quantizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dynadfq.cli.network import FloatNetwork, Seed, with_network
from dynadfq.cli.options import options_named
from dynadfq.cli.output import AsJson, print_json

NAME = "calibrate"
EXAMPLES = """\b
Examples:
  dynadfq calibrate torchvision/resnet50 --images 256 --to calib.npz
  dynadfq calibrate my_pkg.models:build --checkpoint w.pth --input-shape 3,224,224 \\
      --num-classes 10 --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25 --to calib.npy
  dynadfq calibrate artifacts/teacher --to images/ --images 128      # PNG files

\b
docs/deployment.md shows the lines for onnxruntime, TensorRT, OpenVINO, LiteRT and ExecuTorch. If
the command is killed, run it again: it goes on where it stopped."""

ITERATIONS = 100  # EfficientNet-Lite0 needs 60
Count = Annotated[int, typer.Option("--images", min=1, help="Number of images.")]
Iterations = Annotated[int, typer.Option(min=1, help="Steps of optimization per image.")]
To = Annotated[
    Path, typer.Option(help="A file .npz or .npy, or a folder for PNG files.", show_default=False)
]
InputName = Annotated[
    str | None,
    typer.Option(
        help="Key in an .npz file; by default the name that torch.onnx.export gives the input."
    ),
]
ValuesOption = Annotated[
    Literal["float32", "uint8"] | None,
    typer.Option(
        "--input",
        help="Of an .npz or .npy file: normalized values (float32, the default), or pixels of a "
        "model that normalizes them. PNG files hold pixels.",
    ),
]
LayoutOption = Annotated[
    Literal["nchw", "nhwc"] | None,
    typer.Option(
        help="Order of the axes in an .npz or .npy file; nchw by default, LiteRT reads nhwc."
    ),
]


@with_network
def run(
    network: FloatNetwork,
    to: To,
    images: Count = 256,
    iterations: Iterations = ITERATIONS,
    input_name: InputName = None,
    values: ValuesOption = None,
    layout: LayoutOption = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write synthetic images for the calibration of another quantizer.

    The images are made from the network alone, in its own preprocessing.
    """
    from dynadfq.deploy import calibration
    from dynadfq.deploy.images import make_images, require_statistics
    from dynadfq.deploy.work import Work

    options = {"name": "--input-name", "values": "--input", "layout": "--layout"}
    with options_named(**options, iterations="--iterations"):
        teacher = network.load()
        calibration.check_target(to, teacher.preprocessing, input_name, values, layout)
        name = calibration.input_name(teacher) if input_name is None else input_name
        calibration.require_key(to, name)
        require_statistics(teacher, "model", "calibrate on images of your own")
        work = Work.beside(to, teacher, "calibrate", images, iterations, seed)
        made = make_images(teacher, images, iterations, seed, work)
    written = calibration.write_calibration(
        made, to, teacher.preprocessing, name, values or "float32", layout or "nchw"
    )
    recognized = made.one_hot_recognized
    work.delete()
    if as_json:
        print_json(
            {**written._asdict(), "path": str(to), "images": images, "recognized": recognized}
        )
        return
    key = "" if written.name is None else f", input {written.name!r}"
    shape = " × ".join(map(str, written.shape))
    typer.echo(f"{to}: {images} images{key}, {written.dtype} {shape}")
    if recognized is not None:
        typer.echo(f"  the network recognizes the class of {recognized:.0f} % of them")
    if written.dtype == "uint8" and written.clipped_percent:
        typer.echo(f"  {written.clipped_percent:.1f} % of the pixels were cut to 0 … 255")
    typer.echo("  Keep the logits in float, and take the input's range from mean and std")
