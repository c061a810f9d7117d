"""Batches from the set's own generator, trained on while the student is fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dynadfq.quant.bits import BitAllocation
from dynadfq.runtime.artifact import read_bytes, read_record
from dynadfq.runtime.described_file import current, reading, to_tensors
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.generator import (
    CARD,
    WEIGHTS,
    GeneratorCard,
    GeneratorRecipe,
    GeneratorTraining,
)
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.any_width import drawn_allocation
from dynadfq.training.parts import TrainingBatch, TrainingContext

LARGEST_GENERATOR = 1 << 32  # bytes
GeneratorFactory = Callable[[Mapping[str, Any], Teacher], GeneratorRecipe]


class OnlineGeneratorBatches:
    """A generator's batches, each followed by a step of the generator (GDFQ, Algorithm 1).

    The generator's objective may use the student's logits; the student's parameters get no gradient
    from it. The student learns from the images as they were before the generator's step, neither
    augmented nor filtered. The learning rate of the generator decays with the student's.

    Args:
        context: student, teacher, images and schedule.
        method: the method whose generator is expected.
        recipe: builds the generator's recipe from the image settings stored with the set.

    Raises:
        ValueError: the images come from no generator, or from another method's.
    """

    def __init__(self, context: TrainingContext, method: str, recipe: GeneratorFactory) -> None:
        self.context = context
        self.schedule = context.schedule
        self.steps_per_epoch = context.steps_per_epoch
        self.training = _stored_generator(context.images, context.teacher, method, recipe)
        self.rates = torch.optim.lr_scheduler.StepLR(
            self.training.adam, self.schedule.decay_every, self.schedule.decay
        )
        self.steps = 0

    def epoch(self, number: int, rng: torch.Generator) -> Iterator[TrainingBatch]:
        """Yield ``steps_per_epoch`` batches."""
        for _ in range(self.steps_per_epoch):
            size = self.schedule.batch_size
            allocation = drawn_allocation(self.context, size, rng)
            student = partial(self._student_logits, allocation)
            made = self.training.step(size, rng, self.steps, student)
            self.steps += 1
            measured = {f"generator_{name}": value for name, value in made.losses.items()}
            yield TrainingBatch(made.images, made.soft_labels, made.logits, measured, allocation)
        self.rates.step()

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state of the generator, its optimizer and its learning rate."""
        return {
            "generator": self.training.state_dict(),
            "rates": self.rates.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.training.load_state_dict(state["generator"])
        self.rates.load_state_dict(state["rates"])
        self.steps = state["steps"]

    def _student_logits(self, allocation: BitAllocation | None, images: Tensor) -> Tensor:
        return self.context.student.run(images, allocation)[0]


def _stored_generator(
    images: SyntheticSet, teacher: Teacher, method: str, recipe: GeneratorFactory
) -> GeneratorTraining:
    """The generator that made the images, with its weights."""
    origin = "without a generator"
    if CARD in images.manifest["files"]:
        files = images.manifest["files"]
        card_path, path = (current(images.folder / name, files[name]) for name in (CARD, WEIGHTS))
        card = read_record(card_path, GeneratorCard)
        if card.method == method:
            with reading(card_path, card.STAGE):
                training = GeneratorTraining(teacher, recipe(card.images, teacher))
            with reading(path, card.STAGE):
                content = read_bytes(path, LARGEST_GENERATOR, card.STAGE)
                training.network.load_state_dict(to_tensors(content, path, card.STAGE))
            return training
        origin = f"by the generator of {card.method}"
    raise InvalidArgument(
        "online_generator",
        f"the images in {images.folder} were made {origin}, not by that of "
        f"{method}; make them with {method}, or set online_generator to false to train on the "
        "stored images",
    )
