"""One cell: as many iterations and steps as fit into its time, and the accuracy of its student."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, cast

import dynadfq
from benchmarks.time_to_accuracy.rows import Cell, Row
from benchmarks.time_to_accuracy.split import CALIBRATION, SHARD, START, Split
from benchmarks.time_to_accuracy.timing import Clock, Rates
from dynadfq.data.labelled import LabelledSet
from dynadfq.methods import METHODS
from dynadfq.ops.config import Precision
from dynadfq.quant.config import Rounding
from dynadfq.runtime.resume import library_digest
from dynadfq.synthesis.config import Basis, PixelOptimizerConfig, few_iterations
from dynadfq.training.config import FinetuneConfig

BATCH = 64  # of a fine-tuning step
TEST_BATCH = 100
PARTS = 4  # of the training; the learning rate falls after the last but one
PRESETS = ("small", "cifar100")  # of the methods that have them
NETWORKS = ("resnet20-cifar100",)  # whose data the presets are for
HELD_BACK: dict[str, Any] = {"count": 512, "iterations": 100, "seed": 1_000_000, "basis": "pixels"}


def schedule(steps: int, split: Split) -> FinetuneConfig:
    """Return the schedule of a training: a tenth of the learning rate in its last quarter."""
    return FinetuneConfig(
        steps=steps,
        steps_per_epoch=ceil(steps / PARTS),
        decay_every=PARTS - 1,
        batch_size=BATCH,
        learning_rate=split.learning_rate,
        max_gradient_norm=split.max_gradient_norm,
        crop_scale=split.crop_scale,
        calibration_images=min(CALIBRATION, split.images),
    )


def optimizer(basis: Basis, iterations: int) -> PixelOptimizerConfig:
    """Return Adam's settings: the paper's on pixels, those for few iterations on cosines."""
    if basis == "pixels":
        return PixelOptimizerConfig(iterations=iterations, patience=max(1, iterations // 4))
    return few_iterations(iterations)


def published(method: str, part: str) -> dict[str, Any]:
    """Return what the method's presets for small images change in ``images`` or ``student``."""
    found: dict[str, Any] = {}
    for name in PRESETS:
        found |= METHODS[method].preset(name).get(part, {})
    return found


class Bench:
    """One network, its test images, and a folder for rates and images.

    Args:
        teacher: the float network.
        data: folder of the labelled images, ``train/`` and ``val/``.
        test: labelled test images.
        work: folder of these weights; what another state of the library left there is not used.
        precision: of the synthesis.
        bits: of the student's weights and activations.
    """

    def __init__(
        self,
        teacher: dynadfq.Teacher,
        data: Path,
        test: LabelledSet,
        work: Path,
        precision: Precision,
        bits: int,
    ) -> None:
        self.teacher = teacher
        self.data = data
        self.test = test
        self.library = library_digest()[:12]
        self.work = work / self.library
        self.precision = precision
        self.bits = bits
        self.work.mkdir(parents=True, exist_ok=True)

    def row(self, cell: Cell) -> Row:
        """Make the images, train the student and measure it."""
        settings = METHODS[cell.method]
        rates = self.rates(cell.method, cell.allocation)
        budget = 60 * cell.minutes
        optimized = 1 if settings.trains_generator else cell.images
        iterations = 0
        if settings.optimizes_images:
            seconds = cell.share * budget - rates.per_set
            iterations = max(1, int(seconds / (optimized * rates.per_iteration)))
        made = self.images(cell.method, cell.images, iterations, cell.seed, cast(Basis, cell.basis))
        spent = made["cpu"] if settings.data_free else cell.share * budget
        seconds = budget - spent - rates.per_student
        steps = max(1, int(seconds / rates.per_step / PARTS)) * PARTS
        images = dynadfq.SyntheticSet(Path(made["folder"]))
        with Clock() as clock:
            student = self.student(cell.method, images, steps, cell.split, cell.seed)
        on_held_back = dynadfq.evaluate(student, self.held_back, self.teacher)
        on_test = dynadfq.evaluate(student, self.test.batches(TEST_BATCH), self.teacher)
        assert on_held_back.agreement is not None
        assert on_test.agreement is not None and on_test.top1 is not None
        return Row(
            **vars(cell),
            iterations=iterations,
            steps=steps,
            image_seconds=round(made["cpu"], 2),
            student_seconds=round(clock.cpu, 2),
            wall_seconds=round(made["wall"] + clock.wall, 2),
            held_back=round(on_held_back.agreement, 3),
            top1=round(on_test.top1, 3),
            agreement=round(on_test.agreement, 3),
            test_images=len(self.test),
            library=self.library,
        )

    def images(
        self, method: str, count: int, iterations: int, seed: int, basis: Basis
    ) -> dict[str, Any]:
        """Return folder and time of an image set, which is made unless it is there.

        What an interrupted run left is removed: its time is not known.
        """
        folder = self.work / f"{method}-{count}x{iterations}-{basis}-{self.precision}-s{seed}"
        record = folder.with_suffix(".json")
        if not record.exists():
            shutil.rmtree(folder, ignore_errors=True)
            with Clock() as clock:
                self.synthesize(method, count, iterations, seed, basis, folder)
            record.write_text(
                json.dumps({"folder": str(folder), "cpu": clock.cpu, "wall": clock.wall})
            )
        found: dict[str, Any] = json.loads(record.read_text())
        return found

    def synthesize(
        self,
        method: str,
        count: int,
        iterations: int,
        seed: int,
        basis: Basis,
        folder: Path | None = None,
    ) -> dynadfq.SyntheticSet:
        """Make images."""
        options = published(method, "images")
        if not METHODS[method].data_free:
            options |= {"data": "image-folder", "root": str(self.data.resolve())}
        return dynadfq.synthesize(
            self.teacher,
            method,
            count,
            batch_size=SHARD,
            seed=seed,
            folder=folder,
            optimizer=optimizer(basis, iterations),
            precision=self.precision,
            **options,
        )

    def student(
        self,
        method: str,
        images: dynadfq.SyntheticSet,
        steps: int,
        split: Split,
        seed: int,
    ) -> dynadfq.Student:
        """Return a student of fixed width, fine-tuned."""
        options = published(method, "student")
        student = dynadfq.quantize(
            self.teacher,
            self.bits,
            self.bits,
            method=method,
            seed=seed,
            sensitivity_images=images if split.allocation == "sensitivity" else None,
            **options,
        )
        dynadfq.finetune(
            student,
            self.teacher,
            images,
            method=method,
            rounding=cast(Rounding, split.rounding),
            seed=seed,
            schedule=schedule(steps, split),
            **options,
        )
        return student

    def rates(self, method: str, allocation: str) -> Rates:
        """Return the method's times, measured once and kept; they plan the work and are no result.

        Twice, few iterations and steps: the difference is the time of those that were added.
        """
        record = self.work / f"rates-{method}-{self.precision}-{allocation}-{self.bits}.json"
        if not record.exists():
            few, more = 4, 24

            def make(iterations: int, count: int = SHARD) -> dynadfq.SyntheticSet:
                return self.synthesize(method, count, iterations, 0, "pixels")

            images = make(few, CALIBRATION)  # this imports and allocates, too
            short = self._seconds(lambda: make(few))
            per_iteration = (self._seconds(lambda: make(more)) - short) / (more - few)
            split = replace(START, images=CALIBRATION, allocation=allocation)
            self.student(method, images, few, split, 0)  # so does this
            brief = self._seconds(lambda: self.student(method, images, few, split, 0))
            whole = self._seconds(lambda: self.student(method, images, more, split, 0))
            per_step = (whole - brief) / (more - few)
            optimized = 1 if METHODS[method].trains_generator else SHARD
            rates = Rates(
                per_iteration / optimized,
                max(0.0, short - few * per_iteration),
                per_step,
                max(0.0, brief - few * per_step),
            )
            record.write_text(json.dumps(rates._asdict()))
        return Rates(**json.loads(record.read_text()))

    @staticmethod
    def _seconds(work: Callable[[], object]) -> float:
        with Clock() as clock:
            work()
        return clock.cpu

    @cached_property
    def held_back(self) -> list[tuple[Any, None]]:
        """DynaDFQ's images of another seed, the same for all methods; they cost no budget."""
        found = self.images("dynadfq", **HELD_BACK)
        batches = dynadfq.SyntheticSet(Path(found["folder"])).batches(TEST_BATCH)
        return [(batch.images, None) for batch in batches]
