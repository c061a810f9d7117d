"""``python -m benchmarks.speed``: every ratio in one run, with aims, as a table in
benchmarks/reports/speed/ when nothing is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from benchmarks.speed import memory, pipeline, startup, step_memory
from benchmarks.speed.networks import NETWORKS, Bench
from benchmarks.speed.ratio import Result
from benchmarks.speed.steps import evaluation, finetuning, synthesis
from benchmarks.speed.table import as_json, as_markdown
from dynadfq.runtime import device

REPORTS = Path("benchmarks/reports/speed")
NAMES = ("synthesis", "finetuning", "evaluation", "step-memory", "images-memory", "import", "repro")


def results(only: Iterable[str], networks: Iterable[str], on: torch.device) -> list[Result]:
    """Return the requested measurements, in the order of their numbers."""
    benches = [Bench(name, on) for name in networks] if {*only} & {*NAMES[:3]} else []
    measure: dict[str, Callable[[], list[Result]]] = {
        "synthesis": lambda: [synthesis(bench) for bench in benches],
        "finetuning": lambda: [
            finetuning(bench, fixed) for bench in benches for fixed in (False, True)
        ],
        "evaluation": lambda: [evaluation(bench) for bench in benches],
        "step-memory": lambda: [step_memory.measured(name, on) for name in networks],
        "images-memory": memory.measured,
        "import": startup.measured,
        "repro": lambda: [pipeline.measured()],
    }
    return [result for name in NAMES if name in only for result in measure[name]()]


def main() -> None:
    """Measure, print, and write speed-DEVICE.md and speed-DEVICE.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--network", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    on = device.resolve(asked.device)
    torch.set_num_threads(1)
    found = results(asked.only, asked.network, on)
    written = {
        ".json": json.dumps(as_json(found, on), indent=2) + "\n",
        ".md": as_markdown(found, on),
    }
    print(written[".json" if asked.json else ".md"], end="")
    if set(asked.only) == set(NAMES) and set(asked.network) == set(NETWORKS):  # a part is no report
        REPORTS.mkdir(parents=True, exist_ok=True)
        for suffix, text in written.items():
            (REPORTS / f"speed-{on.type}").with_suffix(suffix).write_text(text)


if __name__ == "__main__":
    main()
