"""Every method through every stage, the report included, on an experiment of seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

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
