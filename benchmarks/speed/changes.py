"""The gain of each change for speed: the form in use and the plain one that it replaced, timed in
turn in one run.

    python -m benchmarks.speed.changes [--network resnet18] [--only NAME …]

Prints a table, and writes it to benchmarks/reports/speed/ when nothing is left out;
docs/performance.md says what had been expected.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.speed.networks import NETWORKS, Bench
from benchmarks.speed.pairs import CHANGES
from benchmarks.speed.ratio import Result, alternate, summed_up
from benchmarks.speed.table import as_markdown
from dynadfq.runtime import device

REPORTS = Path("benchmarks/reports/speed")


def measured(bench: Bench, names: list[str]) -> list[Result]:
    """Return a ratio per name."""
    results = []
    for number, (name, make) in enumerate(CHANGES.items(), start=1):
        if name in names:
            pairs = alternate(*make(bench), bench.network.rounds, bench.device)
            results.append(
                summed_up(number, f"{name}: in use / plain ({bench.title})", pairs, None)
            )
    return results


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.changes", description=__doc__)
    parser.add_argument("--network", choices=[*NETWORKS], default="resnet20")
    parser.add_argument("--only", nargs="+", choices=[*CHANGES], default=[*CHANGES])
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    on = device.resolve(asked.device)
    torch.set_num_threads(1)
    bench = Bench(asked.network, on)
    text = as_markdown(measured(bench, asked.only), on)
    print(text, end="")
    if set(asked.only) == set(CHANGES):
        REPORTS.mkdir(parents=True, exist_ok=True)
        (REPORTS / f"changes-{asked.network}-{on.type}.md").write_text(text)


if __name__ == "__main__":
    main()
