"""`dynadfq calibrate`, and the lines of docs/deployment.md that run on its file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from torch import nn

from dynadfq.deploy import calibration
from dynadfq.deploy.calibration import write_calibration
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

PAGE = Path(__file__).parents[2] / "docs/deployment.md"


def lines_of(name: str, last_layer: str) -> str:
    """The page's lines for a library, with the input's name and the last layer of these tests."""
    found = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    [code] = [block for block in found if name in block]
    return code.replace('["x"]', '["images"]').replace('"x":', '"images":').replace("…", last_layer)


def exported(teacher: Teacher, folder: Path) -> str:
    """Export the float network as float.onnx, as torch does; return the name of its last node."""
    path = folder / "float.onnx"
    torch.onnx.export(
        teacher.module, (teacher.example,), path, dynamo=True, verbose=False, external_data=False
    )
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == [calibration.input_name(teacher)]
    return str(graph.node[-1].name)


def logits(path: str, images: numpy.ndarray) -> numpy.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"images": image[None]})[0] for image in images]
    return numpy.concatenate(answers)


def test_a_network_without_statistics_is_refused_before_anything_is_written(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = Teacher(
        nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), (3, 8, 8), 6, [0.5] * 3, [0.25] * 3
    )
    monkeypatch.setattr("dynadfq.cli.network.FloatNetwork.load", lambda *args: plain)
    refused = run("calibrate tiny --to calib.npz")
    assert refused.status == 1 and "images of your own" in refused.err
    assert "BatchNorm statistics" in refused.err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "option", "purpose"),
    [
        ("images", "--layout nhwc", "the order of an array's axes"),
        ("images", "--layout nchw", "the order of an array's axes"),
        ("images", "--input uint8", "what an array holds"),
        ("images", "--input-name x", "the key in an .npz file"),
        ("calib.npy", "--input-name x", "the key in an .npz file"),
        ("calib.npz", "--iterations 99999999", "must be in 0 … 10000000"),
    ],
)
def test_an_option_that_is_wrong_or_has_no_effect_is_refused(
    teacher: Teacher,
    run: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    option: str,
    purpose: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dynadfq.cli.network.FloatNetwork.load", lambda *args: teacher)
    refused = run("calibrate tiny", option, "--to", to)
    assert refused.status == 1 and refused.err.startswith(f"dynadfq: {option.split()[0]}: ")
    assert purpose in refused.err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "options", "dtype"),
    [
        (
            "calib.npz",
            "--layout nhwc --input uint8 --input-name x",
            "input 'x', uint8 2 × 8 × 8 × 3",
        ),
        ("calib.npy", "--layout nhwc --input uint8", "uint8 2 × 8 × 8 × 3"),
        ("images", "", "uint8 8 × 8 × 3"),
    ],
)
def test_options_of_a_file_of_their_kind(
    teacher: Teacher,
    run: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    options: str,
    dtype: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dynadfq.cli.network.FloatNetwork.load", lambda *args: teacher)
    done = run("calibrate tiny --images 2 --iterations 1", options, "--to", to)
    assert done.status == 0 and f"{to}: 2 images, {dtype}" in done.out, done.err


def test_onnxruntime_calibrates_on_the_command_s_file(
    teacher: Teacher, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dynadfq.cli.network.FloatNetwork.load", lambda *args: teacher)
    done = run("calibrate tiny --images 16 --iterations 5 --to calib.npz")
    assert done.status == 0, done.err
    assert "input 'images', float32 16 × 3 × 8 × 8" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["calib.npz"]
    names = {
        "numpy": numpy,
        "CalibrationDataReader": CalibrationDataReader,
        "quantize_static": quantize_static,
    }
    code = lines_of("quantize_static", exported(teacher, tmp_path))
    exec(code, names)  # the page's own text
    images = numpy.load("calib.npz")["images"]
    before, after = (logits(path, images) for path in ("float.onnx", "int8.onnx"))
    assert numpy.abs(before - after).max() < 0.2 * numpy.abs(before).max()
    assert (before.argmax(-1) == after.argmax(-1)).mean() > 0.8


def test_openvino_calibrates_on_the_same_file(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = pytest.importorskip("openvino")
    nncf = pytest.importorskip("nncf")
    monkeypatch.chdir(tmp_path)
    write_calibration(synthetic, Path("calib.npz"), teacher.preprocessing)
    code = lines_of("nncf.quantize", f"{exported(teacher, tmp_path)}/WithoutBiases")
    exec(code, {"numpy": numpy, "nncf": nncf, "openvino": openvino})  # the page's own text
    images = numpy.load("calib.npz")["images"]
    answer = openvino.Core().compile_model("int8.xml", "CPU")(images[:1])[0]
    assert numpy.abs(answer - logits("float.onnx", images[:1])).max() < 1.0
