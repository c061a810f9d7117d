"""``dynadfq quantize``: what it says of the file, in the table, on the card and as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from export_nothing import export_nothing
from PIL import Image
from torch import nn

from dynadfq.deploy.efforts import EFFORTS, Effort
from dynadfq.teacher.teacher import Teacher

Run = Callable[..., Any]
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


@pytest.fixture(autouse=True)
def _small(
    make_net: Callable[[], nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network with class names, and little work."""
    teacher = Teacher(
        make_net(), (3, 8, 8), 6, (0.5,) * 3, (0.25,) * 3, NAMES, architecture="torchvision/tiny"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dynadfq.cli.network.FloatNetwork.load", lambda *args: teacher)
    monkeypatch.setattr("dynadfq.deploy.quantize_model.export_qdq", export_nothing)
    monkeypatch.setitem(EFFORTS, "seconds", Effort(0, 0, 8, "squant", None))


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (NAMES[:2], "by name, 2 of the teacher's 6 classes"),
        (
            [f"n{i}" for i in range(6)],
            "sorted folder names, taken to be the teacher's classes in order; first n0 = ant",
        ),
    ],
)
def test_it_says_how_folders_were_matched_with_classes(
    run: Run, names: list[str], classes: str
) -> None:
    for name in names:
        path = Path("data") / name / "1.png"
        path.parent.mkdir(parents=True)
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    command = "quantize tiny --effort seconds --to a.onnx"
    assert run(command, "--json").json["classes"] is None
    assert "classes" not in run(command).out
    found = run(command, "--data data --json").json
    assert found["classes"] == classes and found["top1"] is not None
    done = run(command, "--data data")
    assert "classes of data" in done.out and classes in done.out, done.err
    assert f"| classes of data |  | {classes} |" in Path("a.md").read_text()


@pytest.mark.parametrize("to", ["a.onnx", "out"])
def test_its_card_names_files_that_are_there(run: Run, to: str) -> None:
    made = run("quantize tiny --effort seconds --json --to", to).json
    card = Path(made["card"])
    page = card.read_text()
    named = {name for name in re.findall(r"`([\w/-]+\.[a-z]+)`", page)}
    expected = {"a.onnx", "a.json"}
    if to == "out":
        expected = {"model.onnx", "model.json", "student/model.safetensors"}
        size = (card.parent / "student/model.safetensors").stat().st_size
        assert f"- Size of `student/model.safetensors`: {size:,} bytes" in page
    assert named == expected
    # The JSON file is a part of the export, which is left out here.
    assert all((card.parent / name).exists() for name in named if not name.endswith(".json"))
