"""Images from noise: the pixels are optimized (ZeroQ, DSG, IntraQ, HAST, DynaDFQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dynadfq.losses.objective import Objective, SynthesisStep
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import Batch
from dynadfq.synthesis.labels import LabelSampler
from dynadfq.synthesis.source import Shard, as_numbers
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.teacher import Teacher


def gaussian(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return pixels from N(0, 1), in the scale of normalized images."""
    return torch.randn(shape, generator=rng)


@dataclass(frozen=True)
class ImageRecipe:
    """The labels of images, and the objective of their pixels.

    labels: (count, rng) to (count, classes) soft labels.
    objective: what the pixels minimize.
    initial: (B, C, H, W) shape to starting pixels.
    augment: applied to the images before each forward pass; differentiable.
    project: applied to the pixels after each step.
    remember: told of every finished shard, in order; the next one's objective may depend on it.
    optimized: False leaves the starting pixels as they are.
    """

    labels: LabelSampler
    objective: Objective[SynthesisStep]
    initial: Callable[[tuple[int, ...], torch.Generator], Tensor] = gaussian
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    project: Callable[[Tensor], Tensor] | None = None
    remember: Callable[[Batch], None] | None = None
    optimized: bool = True

    def source(self, teacher: Teacher, optimizer: PixelOptimizerConfig) -> PixelSource:
        """Return the source of images that the recipe gives for a teacher."""
        return PixelSource(teacher, self, optimizer)


class PixelSource:
    """Makes shards by gradient descent on their pixels."""

    preparation_steps = 0

    def __init__(
        self, teacher: Teacher, recipe: ImageRecipe, optimizer: PixelOptimizerConfig
    ) -> None:
        self.teacher = teacher
        self.recipe = recipe
        self.optimizer = optimizer
        self.steps = optimizer.iterations if recipe.optimized else 0
        self.sequential = recipe.remember is not None

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Return no files: nothing comes before the first shard."""
        return {}

    def remember(self, batch: Batch) -> None:
        """Tell the recipe of a finished shard."""
        if self.recipe.remember is not None:
            self.recipe.remember(batch)

    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Draw labels and starting pixels, and optimize the pixels.

        Raises:
            NonFiniteLoss: a term is NaN or infinite.
        """
        soft_labels = self.recipe.labels(count, rng)
        start = self.recipe.initial((count, *self.teacher.input_shape), rng)
        images = start.to(self.teacher.device).contiguous(memory_format=self.teacher.memory_format)
        targets = soft_labels.to(images.device)
        with self.teacher.recording() as recording:
            if self.steps:
                self._optimize(images.requires_grad_(), targets, recording, rng, progress)
            with torch.no_grad():
                total, values, logits = self._losses(images, targets, recording, rng)
        finished = images.detach().cpu().contiguous()
        losses = as_numbers(total, values)
        return Shard(finished, soft_labels, logits.cpu(), losses, self.recipe.objective.of_labels)

    def _optimize(
        self,
        images: Tensor,
        soft_labels: Tensor,
        recording: Recording,
        rng: torch.Generator,
        progress: Progress,
    ) -> None:
        settings = self.optimizer
        augment = self.recipe.augment
        project = self.recipe.project
        adam = torch.optim.Adam([images], lr=settings.learning_rate)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            adam,
            factor=settings.decay,
            patience=settings.patience,
            min_lr=settings.min_learning_rate,
        )
        for iteration in range(self.steps):
            seen = images if augment is None else augment(images, rng)
            total, values, _ = self._losses(seen, soft_labels, recording, rng)
            require_finite(values, iteration)
            (images.grad,) = torch.autograd.grad(total, images)
            adam.step()
            if project is not None:
                images.data.copy_(project(images.detach()))
            plateau.step(total.detach())
            progress.step(**as_numbers(total, values))

    def _losses(
        self, images: Tensor, soft_labels: Tensor, recording: Recording, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The objective, its terms by name, and the teacher's logits."""
        recording.clear()
        logits = self.teacher(images)
        step = SynthesisStep(images, soft_labels, logits, recording, rng=rng)
        total, values = self.recipe.objective(step)
        return total, values, logits
