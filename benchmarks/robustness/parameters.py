"""Counts of wrong, extreme and odd parameters by what is said about them.

    python -m benchmarks.robustness.parameters --count 300

A trial is one setting changed. It is refused before anything runs, or accepted; an accepted one
that takes seconds is run through the stages that it acts on.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import torch
import yaml

from benchmarks.robustness.mutations import Mutation, mutations
from benchmarks.robustness.stages import run_stages, tiny
from dynadfq.params import ParameterError, read

FLOAT_NETWORK = ("teacher", "similarity")
AFTER = ("synthesize", "finetune", "finetune_fixed", "evaluate")
REFUSED = "refused in one sentence"
TOO_LARGE = "accepted, not tried"
RUNS = "accepted, runs"
STOPS = "accepted, ends in one sentence"
TRACEBACK = "traceback"


def said(mutation: Mutation, folder: Path) -> str | None:
    """Return what the check says of a mutation; None when it accepts it."""
    path = folder / "params.yaml"
    content = tiny(mutation.method, **{mutation.key: mutation.value})
    path.write_text(yaml.safe_dump(content))
    try:
        read(path)
    except ParameterError as error:
        return "\n".join(error.problems)
    return None


def stages_for(key: str) -> list[str]:
    """Return the stages that show what a setting does."""
    group = key.split(".")[0]
    names = [*AFTER]
    if group in ("teacher", "data", "seed", "device"):
        names = [*FLOAT_NETWORK, *names]
    elif group == "similarity":
        names = ["similarity", *names]
    elif group in ("export", "report"):
        names += ["export", "plot"][: 1 if group == "export" else 2]
    return names


def run(mutation: Mutation, folder: Path, ready: Path) -> str | None:
    """Run a mutation's stages beside finished float networks; return the sentence of a failure."""
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    shutil.rmtree(folder / ".scratch", ignore_errors=True)
    shutil.copytree(ready / "artifacts", folder / "artifacts")
    content = tiny(mutation.method, **{mutation.key: mutation.value})
    return run_stages(folder, content, *stages_for(mutation.key))


def prepare(folder: Path) -> Path:
    """Train the float network that mutations of later stages start from."""
    folder.mkdir()
    failure = run_stages(folder, tiny(), *FLOAT_NETWORK)
    assert failure is None, failure
    return folder


def verdict(mutation: Mutation, folder: Path, ready: Path) -> tuple[str, str]:
    """Return how a trial ended, and what was said."""
    try:
        if problem := said(mutation, folder):
            return REFUSED, problem
        if not mutation.affordable:
            return TOO_LARGE, ""
        failure = run(mutation, folder, ready)
    except Exception as error:  # what is counted here
        return TRACEBACK, f"{type(error).__name__}: {error}"
    return (STOPS, failure) if failure else (RUNS, "")


def main(arguments: list[str] | None = None) -> None:
    """Print each trial that ends in a traceback, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print every trial")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ready = prepare(folder / "ready")
        for mutation in mutations(options.count, options.seed):
            end, words = verdict(mutation, folder, ready)
            counts[end] += 1
            if options.all or end in (TRACEBACK, STOPS):
                value = str(mutation.value)[:40]
                print(f"{mutation.method} {mutation.key}={value}: {end} {words[:200]}", flush=True)
    for end, count in counts.most_common():
        print(f"{count:5} {end}")


if __name__ == "__main__":
    main()
