"""Errors of commands begin with the option, or the argument, as it was written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dynadfq
from dynadfq.cli.options import options_named
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.synthesis.dataset import SyntheticSet

Run = Callable[..., Any]
NETWORKS = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))

def probabilities(num_classes):
    return nn.Sequential(build(num_classes), nn.Softmax(dim=1))
"""
OWN = "networks_without_names:build --input-shape 3,8,8 --num-classes 4"
RESNET = "pytorchcv/resnet20_cifar10 --checkpoint w.pth"


@pytest.fixture(autouse=True)
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of one's own in the working directory."""
    (tmp_path / "networks_without_names.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "timm", None)  # not installed
    monkeypatch.delitem(sys.modules, "dynadfq.zoo.families.timm", raising=False)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "quantize networks_without_names:build --checkpoint w.pth",
            "--input-shape, --num-classes: not given; write what the network was trained with",
        ),
        (f"quantize {RESNET} --std 0,0,0", "--std: must be greater than 0; got 0.0"),
        (f"quantize {RESNET} --mean nan,.5,.5", "--mean: must be a finite number; got NaN"),
        (f"quantize {RESNET} --mean 2,2,2", "--mean: must be in 0 … 1, as pixels are; got [2.0,"),
        (f"quantize {RESNET}", "--checkpoint: w.pth does not exist"),
        ("quantize resnet50", "MODEL: 'resnet50' is not <family>/<model>"),
        ("quantize pytorchcv/resnet", "MODEL: pytorchcv has no model 'resnet'"),
        ("quantize timm/resnet18", "MODEL: 'timm/resnet18' needs the package timm"),
        (
            f"quantize {OWN.replace(':build', ':built')}",
            "MODEL: 'networks_without_names:built' can",
        ),
        (
            f"quantize {OWN.replace(':build', ':nn')}",
            "MODEL: 'networks_without_names:nn' is module",
        ),
        (f"quantize {OWN.replace(':build', ':probabilities')}", "MODEL: the network returns prob"),
        (f"quantize {OWN}", "--effort: images are made from"),
        (f"calibrate {OWN}", "MODEL: images are made from the network's BatchNorm statistics"),
        (f"quantize {RESNET} --classes x.txt", "--classes: says which class each folder of --data"),
    ],
)
def test_of_a_float_network(run: Run, tmp_path: Path, command: str, message: str) -> None:
    to = "a.onnx" if command.startswith("quantize") else "a.npz"
    refused = run(command, "--to", tmp_path / to)
    assert refused.status == 1 and refused.err.count("\n") == 1
    assert refused.err.startswith(f"dynadfq: {message}"), refused.err


@pytest.mark.parametrize("folder", ["student", "fixed"])
def test_of_a_student_that_cannot_be_a_qdq_file(run: Run, models: Any, folder: str) -> None:
    options = ("--to qdq --check", models.synthetic, "-o a.onnx")
    refused = run("export", getattr(models, folder), *options)
    assert refused.status == 1 and refused.err.startswith("dynadfq: MODEL: ")
    assert "--to onnx" in refused.err


@pytest.mark.parametrize("to", ["qdq", "onnx", "pt2"])
def test_of_images_that_an_export_is_checked_on(
    run: Run, models: Any, synthetic: SyntheticSet, to: str
) -> None:
    student = dynadfq.quantize(dynadfq.load_teacher(models.teacher), 8, 8, scheme="integer")
    calibrate(student, [torch.randn(4, 3, 16, 16)], extremes)
    student.save("student")
    synthetic.save("small")
    refused = run("export student --check small -o a --to", to)
    assert refused.status == 1
    assert refused.err.startswith("dynadfq: --check: of shape (24, 3, 8, 8), but the network")


def test_of_what_a_model_s_files_name(run: Run, models: Any, tmp_path: Path) -> None:
    shutil.copytree(models.teacher, "named")
    facts = tmp_path / "named" / "teacher.json"
    for name, option in (("timm/resnet18", "MODEL"), ("networks_without_names:build", "--trust")):
        text = facts.read_text().replace(json.loads(facts.read_text())["architecture"], name)
        facts.write_text(text)
        refused = run("inspect named")
        assert refused.status == 1 and refused.err.startswith(f"dynadfq: {option}: ")


def test_other_errors_stay_as_they_are() -> None:
    for message in ("a file: is damaged", "mean, x: differ", "weights of std: differ", "nothing"):
        with pytest.raises(ImportError, match=f"^{message}$"), options_named():
            raise ImportError(message)
