"""Ratio 5: memory of synthesis and fine-tuning at ten times the number of images."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.speed.memory import FEW, SMALL, TIMES, run
from benchmarks.speed.ratio import Result, summed_up

STAGES = ("synthesize", "finetune")
SLACK = 1.05  # what counts as the same


def measured() -> list[Result]:
    """Largest anonymous memory of each stage, once at either size (``benchmarks.speed.memory``
    repeats).
    """
    results = []
    with tempfile.TemporaryDirectory(prefix="dynadfq-memory-") as name:
        taken = {
            (stage, images): run(stage, Path(name) / str(images), images, SMALL, "float32")[
                "anonymous"
            ]
            for images in (FEW, TIMES * FEW)
            for stage in STAGES
        }
    for stage in STAGES:
        pair = (taken[stage, TIMES * FEW], taken[stage, FEW])
        title = f"memory of {stage} at {TIMES * FEW} images / at {FEW}"
        results.append(
            summed_up(5, title, [pair], SLACK, "MiB", "largest anonymous memory of the process")
        )
    return results
