"""Images made for the student while it learns: the set's generator goes on learning, step by step
beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.generator import CARD, WEIGHTS, GeneratorTraining
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.batches import BatchStream, StoredBatches, TrainingBatch
from dynadfq.training.config import FinetuneConfig
from dynadfq.training.recipe import OnlineGenerator, StudentRecipe


class OnlineGeneratorBatches:
    """A generator's batches, each followed by a step of the generator (GDFQ, Algorithm 1).

    The generator's objective may ask the student; the student's parameters get no gradient from it.
    What the student then learns from are the images as they were before that step. Adam's rate
    falls when the student's rates do.
    """

    def __init__(
        self,
        images: SyntheticSet,
        teacher: Teacher,
        student: Student,
        online_generator: OnlineGenerator,
        schedule: FinetuneConfig,
    ) -> None:
        self.student, self.schedule = student, schedule
        self.training = _continued(images, teacher, online_generator)
        self.rates = torch.optim.lr_scheduler.StepLR(
            self.training.adam, schedule.decay_every, schedule.decay
        )
        self.steps = 0

    def epoch(self, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """``steps_per_epoch`` batches."""
        for _ in range(self.schedule.steps_per_epoch):
            taught = self.training.step(self.schedule.batch_size, rng, self.steps, self._answer)
            self.steps += 1
            measured = {f"generator_{name}": value for name, value in taught.losses.items()}
            yield TrainingBatch(taught.images, taught.soft_labels, taught.logits, measured)
        self.rates.step()

    def state_dict(self) -> Mapping[str, Any]:
        """The generator, its optimizer and its rates."""
        return {
            "generator": self.training.state_dict(),
            "rates": self.rates.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.training.load_state_dict(state["generator"])
        self.rates.load_state_dict(state["rates"])
        self.steps = state["steps"]

    def _answer(self, images: Tensor) -> Tensor:
        return self.student.run(images)[0]


def batch_stream(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    schedule: FinetuneConfig,
) -> BatchStream:
    """What the recipe's student sees: the stored images, or those of their generator."""
    if recipe.online_generator is None:
        return StoredBatches(images, teacher, recipe, schedule)
    return OnlineGeneratorBatches(images, teacher, student, recipe.online_generator, schedule)


def _continued(
    images: SyntheticSet, teacher: Teacher, online_generator: OnlineGenerator
) -> GeneratorTraining:
    """The generator that made the images, with its weights.

    Raises:
        ValueError: they come from no generator, or from another method's.
    """
    made = "without a generator"
    if CARD in images.manifest["files"]:
        card = json.loads((images.folder / CARD).read_text())
        if card["method"] == online_generator.method:
            training = GeneratorTraining(teacher, online_generator.recipe(card["images"], teacher))
            training.network.load_state_dict(safetensors.torch.load_file(images.folder / WEIGHTS))
            return training
        made = f"by {card['method']}'s generator"
    raise ValueError(
        f"method.{online_generator.method}.student.online_generator: the images in {images.folder} were made {made}, and "
        f"{online_generator.method}'s is to go on learning; make them with {online_generator.method}, or set online_generator to false to train on "
        "the stored images"
    )
