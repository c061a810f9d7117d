"""``python -m benchmarks.selectors --data FOLDER --checkpoint FILE``: a row per selector and share.

Images, student and logits are made once and kept in OUTPUT. Each selector learns on synthetic
images and, as a bound, on images of the training part, both with the teacher's answers.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import dynadfq
from benchmarks.deployment import networks
from benchmarks.selectors.learners import LEARNERS, margin
from benchmarks.selectors.measured import (
    DECISIONS,
    HIGHEST,
    LOWEST,
    MIDDLE,
    WIDTHS,
    Measured,
    least_divergence,
    measure,
    percent,
)
from benchmarks.selectors.mixtures import affordable, followed, gains, thresholded
from dynadfq.evaluation.controls import by_rank
from dynadfq.ops.augment import random_flip, random_resized_crop
from dynadfq.runtime.resume import atomic_write, digest, fingerprint, library_digest
from dynadfq.synthesis.config import few_iterations
from dynadfq.training.config import FinetuneConfig

SHARES = (0.1, 0.2, 0.5)  # of images with the lowest width
THRESHOLD_SHARE = 0.2
IMAGES, ITERATIONS, STEPS, BATCH = 512, 100, 400, 64
COPIES = 4  # of each synthetic image: itself, and random crops and flips
OWN = "the student's own margin, not counted"  # its answer at 3 bits, known only afterwards
CONTROLS = ("one_width", "permuted")


def work_folder(output: Path, teacher: dynadfq.Teacher, seed: int) -> Path:
    """Return the folder of a seed, a network and a state of the code."""
    code = [library_digest(), digest(Path(__file__).parent)]
    return output / f"seed-{seed}-{fingerprint(teacher.describe(), code)[:12]}"


def synthesized(teacher: dynadfq.Teacher, folder: Path, seed: int) -> dynadfq.SyntheticSet:
    """Return synthetic images, which are made unless the folder holds them."""
    if (folder / "manifest.json").exists():
        return dynadfq.SyntheticSet(folder)
    adam = few_iterations(ITERATIONS)
    options: dict[str, Any] = {"batch_size": BATCH, "precision": "auto", "optimizer": adam}
    return dynadfq.synthesize(teacher, num_images=IMAGES, seed=seed, folder=folder, **options)


def any_width(
    teacher: dynadfq.Teacher, images: dynadfq.SyntheticSet, folder: Path, seed: int
) -> dynadfq.Student:
    """Return a student that learned at drawn widths, trained unless the folder holds it."""
    if not (folder / "student.json").exists():
        student = dynadfq.quantize(teacher, MIDDLE, list(WIDTHS), target_bits=MIDDLE, seed=seed)
        schedule = FinetuneConfig(
            steps=STEPS,
            steps_per_epoch=STEPS // 4,
            decay_every=3,
            batch_size=BATCH,
            learning_rate=3e-5,
            calibration_images=256,
        )
        dynadfq.finetune(student, teacher, images, any_width=True, seed=seed, schedule=schedule)
        student.save(folder)
    return dynadfq.load_student(folder)


def augmented(images: Tensor) -> Iterator[Tensor]:
    """Yield batches of the images, then of random crops and flips of them."""
    rng = torch.Generator().manual_seed(1)
    for copy in range(COPIES):
        for batch in images.split(2 * BATCH):
            yield random_flip(random_resized_crop(batch, 0.5, rng), rng) if copy else batch


def kept(stem: Path, images: Tensor, make: Callable[[], Measured]) -> Measured:
    """Return what a file holds for these images, which is made and written where it is missing."""
    name = hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:12]
    path = stem.with_name(f"{stem.name}-{name}.pt")
    if not path.exists():
        content = io.BytesIO()
        torch.save(make(), content)
        atomic_write(path, content.getbuffer())
    found: Measured = torch.load(path, mmap=True)
    return found


def rows(
    test: Measured, labels: Tensor, student: dynadfq.Student, sources: dict[str, Measured]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each decision, selector, source of its images, and share."""
    for decision in DECISIONS:
        cost = percent(student, decision)
        names = (f"{decision}:{LOWEST}", str(MIDDLE), f"{decision}:{HIGHEST}")
        right = torch.stack([test[name].argmax(dim=1) == labels for name in names])
        top1 = (100 * right.double().mean(dim=1)).tolist()
        own = margin(test[names[0]])
        scored = [(OWN, "none", own, own, 0)]
        for name, learner in LEARNERS.items():
            for source, images in sources.items():
                torch.manual_seed(0)
                scored.append((name, source, *learner(images, test, decision)))
        for name, source, on_source, scores, macs in scored:
            overhead = 100 * macs * MIDDLE**2 / student.cost.float_total
            bounds = on_source.quantile(torch.tensor([THRESHOLD_SHARE, 1 - THRESHOLD_SHARE]))
            start = (float(bounds[0]), float(bounds[1]))
            used = {
                "fixed": thresholded(scores, start),
                "followed": followed(scores, start, THRESHOLD_SHARE),
            }
            spent = {
                f"{kind}_thresholds_percent": float(torch.tensor(cost)[widths].mean()) + overhead
                for kind, widths in used.items()
            }
            for share in SHARES:
                saved, paid = cost[1] - cost[0], cost[2] - cost[1]
                counts = affordable(len(labels), share, saved, paid, overhead)
                if counts is not None:
                    compared = gains(right, by_rank(scores, *counts), seed=0)
                    yield {
                        "decision": decision,
                        "selector": name,
                        "learned_on": source,
                        "share": share,
                        "top1_low": top1[0],
                        "top1_one_width": top1[1],
                        "top1_high": top1[2],
                        "percent": cost[1],
                        "overhead_percent": overhead,
                        **spent,
                        **{
                            f"{control}_{value}": getattr(one, value)
                            for control, one in zip(CONTROLS, compared, strict=True)
                            for value in ("difference", "standard_error", "p_value")
                        },
                    }


def main() -> None:
    """Measure what is missing, and write OUTPUT/seed-SEED-DIGEST/selectors.csv."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selectors", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--checkpoint", type=Path, help=networks.CHECKPOINT)
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--bound", type=int, default=2_500, help="training images of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(".scratch/selectors"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    teacher = networks.NETWORKS["resnet20-cifar100"].teacher(asked.checkpoint)
    output = work_folder(asked.output, teacher, asked.seed)
    images = synthesized(teacher, output / "images", asked.seed)
    student = any_width(teacher, images, output / "student", asked.seed)
    pixels = torch.cat([batch.images for batch in images.batches(BATCH)])
    with torch.no_grad():
        factor = least_divergence(student, pixels[:256], teacher(pixels[:256]))
    print("ranges at 3 bits are multiplied by", factor, flush=True)

    def measured(name: str, images: Tensor, batches: Iterable[Tensor]) -> Measured:
        return kept(output / name, images, lambda: measure(student, teacher, batches, factor))

    def labelled(part: str, count: int) -> tuple[Measured, Tensor]:
        found = networks.labelled(teacher, asked.data, part, None, count)
        return measured(part, found.pixels, (one for one, _ in found.batches(100))), found.labels

    with torch.no_grad():
        sources = {"synthetic": measured("synthetic", pixels, augmented(pixels))}
        on_test, labels = labelled("val", asked.images)
        if asked.bound:
            sources["real"], _ = labelled("train", asked.bound)
    table = pd.DataFrame(rows(on_test, labels, student, sources))
    text = table.to_csv(index=False, float_format="%.6g")
    atomic_write(output / "selectors.csv", text.encode())


if __name__ == "__main__":
    main()
