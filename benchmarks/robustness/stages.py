"""All stages in this process, on an experiment of seconds."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from stages import (
    check,
    evaluate,
    export,
    finetune,
    plot,
    similarity,
    synthesize,
    teacher,
    trial,
)
from stages.runtime import main

# Shards, batches and epochs are several.
TINY: dict[str, Any] = {
    "seed": 0,
    "device": "cpu",
    "precision": "float32",
    "data": {"name": "digits"},
    "teacher": {"pretrained": False, "epochs": 1, "batch_size": 256},
    "similarity": {},
    "synthesis": {"num_images": 8, "batch_size": 4, "iterations": 1},
    "method": {"name": "dynadfq", "preset": "default", "images": {}, "student": {}},
    "quantization": {},
    "selector": {"pool": 2, "hidden": 8},
    "finetune": {"epochs": 2, "steps_per_epoch": 1, "batch_size": 4, "calibration_images": 8},
    "evaluation": {"test_images": 8, "control_repeats": 1, "budgets": 0, "sensitivity_bits": []},
    "export": {"check_images": 4},
    "report": {"grid_images": 4},
    "launch": {},
}
# What a method needs, and what takes long by default.
OWN: dict[str, dict[str, Any]] = {
    "adaround": {"student": {"iterations": 4, "num_images": 8}},
    "real_data": {"images": {"data": "digits"}},
}

STAGES: dict[str, Callable[[], None]] = {
    "check": check.main,
    "teacher": partial(main, teacher.run, teacher.TeacherParams),
    "similarity": partial(main, similarity.run, similarity.SimilarityParams),
    "trial": partial(main, trial.run, trial.TrialParams),
    "synthesize": partial(main, synthesize.run, synthesize.SynthesizeParams),
    "finetune": partial(main, finetune.dynamic, finetune.FinetuneParams),
    "finetune_fixed": partial(main, finetune.fixed, finetune.FixedParams),
    "evaluate": partial(main, evaluate.run, evaluate.EvaluateParams),
    "export": partial(main, export.run, export.ExportParams),
    "plot": partial(main, plot.run, plot.PlotParams),
}


def tiny(method: str = "dynadfq", **settings: Any) -> dict[str, Any]:
    """Return the content of a parameter file, with settings by dotted key."""
    content = deepcopy(TINY)
    content["method"] |= {"name": method, **deepcopy(OWN.get(method, {}))}
    for key, value in settings.items():
        *groups, name = key.split(".")
        group = content
        for part in groups:
            group = group.setdefault(part, {})
        group[name] = value
    return content


def run_stages(folder: Path, content: dict[str, Any], *names: str) -> str | None:
    """Run stages in a folder, and return what the first that fails says; None when all succeed.

    Args:
        folder: of ``params.yaml`` and ``artifacts``.
        content: of ``params.yaml``.
        names: the stages; none are all.
    """
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    said = io.StringIO()
    with _inside(folder), contextlib.redirect_stderr(said):
        for name in names or STAGES:
            said.seek(said.truncate(0))
            try:
                STAGES[name]()
            except SystemExit:
                return said.getvalue().splitlines()[-1]
    return None


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
