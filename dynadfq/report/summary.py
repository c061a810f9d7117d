"""The result in a few lines, which end a run; ``python -m dynadfq.report.summary`` repeats them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NETWORKS = ("teacher", "fixed", "control", "static", "student", "ceiling")


def summary(metrics: Mapping[str, Any]) -> str:
    """Return a line for each measured network, and where the report is.

    Args:
        metrics: the content of metrics.json; percent in percent.
    """
    labelled = "top1" in metrics["student"]
    score, meaning = ("top1", "top-1") if labelled else ("agreement", "agreement with the teacher")
    lines = []
    for name in NETWORKS:
        measured = metrics.get(name, {})
        if score in measured:  # the teacher agrees with itself
            lines.append(
                f"{name:8} {measured[score]:6.2f} % {meaning} at "
                f"{measured['bit_flops_percent']:6.2f} % of the float model's bit-FLOPs"
            )
    return "\n".join([*lines, "Report: reports/index.html"])


if __name__ == "__main__":
    print(summary(json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))))
