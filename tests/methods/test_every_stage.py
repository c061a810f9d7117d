"""Every method through every stage, the report included, on an experiment of seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import dynadfq
from benchmarks.robustness.stages import STAGES, run_stages, tiny
from dynadfq.methods import METHODS
from dynadfq.report import render
from dynadfq.report.figures.theme import Theme

FLOAT_NETWORK = ("check", "teacher", "similarity")
REST = [name for name in STAGES if name not in FLOAT_NETWORK]


def built(build: Callable[[Theme], Figure], theme: Theme, photographs: bool = False) -> bytes:
    """The figure without its pixels, which take nine tenths of the time."""
    with theme.style():
        build(theme)
    return bytes(24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a float network trained on digits."""
    folder: Path = tmp_path_factory.mktemp("every-stage")
    assert run_stages(folder, tiny(), *FLOAT_NETWORK) is None
    return folder


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_through_every_stage(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "draw", built)
    for made in ("synthetic", "student", "fixed", "evaluation", "export"):
        shutil.rmtree(folder / "artifacts" / made, ignore_errors=True)
    shutil.rmtree(folder / "reports", ignore_errors=True)
    assert run_stages(folder, tiny(name), "check", *REST) is None
    assert (folder / "reports/index.html").stat().st_size > 0
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert all(0 <= metrics[row]["top1"] <= 100 for row in ("student", "fixed", "control"))
    card = (folder / "artifacts/evaluation/model_card.md").read_text()
    assert METHODS[name].title in card or name in card


NETWORKS = """
from torch import nn

class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = without_maps()

    def forward(self, images):
        return self.layers(images if images.sum() > 0 else -images)

def without_maps():
    layers = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10)
    return nn.Sequential(nn.Flatten(), *layers)
"""


@pytest.mark.parametrize(
    ("network", "method", "changes", "said"),
    [
        ("Asking", "dynadfq", {}, "cannot be traced"),
        ("without_maps", "hast", {}, "neither residual units nor BatchNorm layers"),
        (
            "without_maps",
            "dynadfq",
            {"finetune.attention_transfer": 2.5},
            "finetune.attention_transfer: 2.5 given, and the network has neither residual units",
        ),
        ("without_maps", "dynadfq", {}, "selector.candidates: the network has 1 activation sites"),
    ],
)
def test_a_network_that_no_student_can_be_made_of_ends_the_run_before_images(
    network: str,
    method: str,
    changes: dict[str, float],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "networks_to_try.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    path = f"networks_to_try:{network}"
    teacher = dynadfq.load_teacher(path, input_shape=(1, 8, 8), num_classes=10)
    teacher.save(tmp_path / "artifacts" / "teacher")
    found = run_stages(tmp_path, tiny(method, **{"teacher.architecture": path, **changes}), "trial")
    assert said in str(found) and not (tmp_path / "artifacts/tried.txt").exists()
