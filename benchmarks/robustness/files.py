"""``python -m benchmarks.robustness.files``: what readers say of damaged, edited and foreign files.

A teacher, its class similarities, a synthetic set and a student of a tiny network, and the records
of an evaluation and an export, are damaged in every way of ``damages``, one at a time, and read as
the next stage reads them. A good answer is one sentence that names a file of the artifact.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

import dynadfq
from benchmarks.robustness.damages import Damage, damages
from benchmarks.robustness.measured import write_measured
from benchmarks.robustness.network import CLASSES, SHAPE, build
from dynadfq.params.loading import check
from dynadfq.params.view import V, narrow
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.report.load import load_evidence
from dynadfq.synthesis.dataset import SyntheticSet
from stages import similarity, synthesize

ARCHITECTURE = "benchmarks.robustness.network:build"
NETWORK = {"in_channels": SHAPE[0], "num_classes": CLASSES}
PATIENCE = 10  # seconds
SENTENCES = (ValueError, OSError, ImportError, ArithmeticError)  # shown without a traceback
OUTCOMES = ("sentence", "file not named", "traceback", "no answer", "accepted")
PARAMS = {
    "synthesis": {"num_images": 8, "batch_size": 4, "iterations": 1},
    "teacher": {"architecture": ARCHITECTURE},
    "finetune": {"calibration_images": 8},
    "selector": {"warm_up_images": 8},
}


class Trial(NamedTuple):
    """A damage and what a reader made of it."""

    damage: Damage
    outcome: str  # one of OUTCOMES
    answer: str


def make_artifacts(folder: Path) -> None:
    """Write what the stages before the report write."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = dynadfq.Teacher(
            build(**NETWORK), SHAPE, CLASSES, (0.5,) * 3, (0.25,) * 3, architecture=ARCHITECTURE
        )
        teacher.save(folder / "teacher")
        student = dynadfq.quantize(teacher, activation_bits=(3, 4, 5))
        calibrate(student, [torch.randn(8, *SHAPE)], extremes)
        student.save(folder / "student")
    similarity.make(_view(similarity.SimilarityParams), folder / "teacher", folder / "similarity")
    _synthesize(folder, folder / "synthetic")
    write_measured(folder)


def run_trial(folder: Path, damage: Damage) -> Trial:
    """Damage a copy of the artifacts, and read it."""
    artifact = damage.file.split("/")[0]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "artifacts"
        shutil.copytree(folder, copy)
        damage.change(copy)
        try:
            READERS[artifact](copy)
        except SENTENCES as error:
            named = f"{copy / artifact}/" in str(error) and "\n" not in str(error)
            return Trial(damage, "sentence" if named else "file not named", _text(error))
        except Exception as error:
            return Trial(damage, "traceback", _text(error))
    return Trial(damage, "accepted", "")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _read_synthetic(folder: Path) -> None:
    """Read as fine-tuning does, with a network and a loss that need the right shapes."""
    teacher = dynadfq.load_teacher(folder / "teacher", trust=ARCHITECTURE)
    images = SyntheticSet(folder / "synthetic")
    images.check(SHAPE, CLASSES)
    for batch in images.batches(3):
        torch.nn.functional.cross_entropy(teacher(batch.images), batch.soft_labels)


def _synthesize(folder: Path, to: Path) -> None:
    p = _view(synthesize.SynthesizeParams)
    synthesize.make(p, folder / "teacher", folder / "similarity", to)


READERS: dict[str, Callable[[Path], object]] = {
    "teacher": lambda folder: dynadfq.load_teacher(folder / "teacher", trust=ARCHITECTURE),
    "student": lambda folder: dynadfq.load_student(folder / "student", trust=ARCHITECTURE),
    "similarity": lambda folder: _synthesize(folder, folder / "again"),
    "synthetic": _read_synthetic,
    "evaluation": load_evidence,
    "export": load_evidence,
}


def _view(view: type[V]) -> V:
    params, problems = check(PARAMS)
    assert not problems, problems
    return narrow(params, view)


def run_apart(folder: Path, damage: Damage) -> Trial:
    """Run a trial in a process of its own, which is killed if it gives no answer."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(run_trial(folder, damage)[1:]))
    process.start()
    answered = receiver.poll(PATIENCE)
    outcome, answer = receiver.recv() if answered else ("no answer", f"none in {PATIENCE} s")
    process.kill()
    process.join()
    return Trial(damage, outcome, answer)


def main() -> None:
    """Run the trials and print counts by artifact, and every answer that is not a sentence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the bytes that are altered")
    parser.add_argument("--every", type=int, default=1, help="run one of so many trials")
    parser.add_argument("--verbose", action="store_true", help="print the sentences too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_artifacts(folder)
        chosen = list(damages(folder, asked.seed))[:: asked.every]
        counts: dict[str, Counter[str]] = {name: Counter() for name in READERS}
        for damage in chosen:
            trial = run_apart(folder, damage)
            counts[damage.file.split("/")[0]][trial.outcome] += 1
            if asked.verbose or trial.outcome != "sentence":
                print(f"{trial.outcome}: {damage.file}, {damage.kind}: {trial.answer[:300]}")
    print(f"\n| artifact | trials | {' | '.join(OUTCOMES)} |\n| --- |{' ---: |' * 6}")
    for name, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        cells = [found.total(), *(found[outcome] for outcome in OUTCOMES)]
        print(f"| {name} | {' | '.join(map(str, cells))} |")


if __name__ == "__main__":
    main()
