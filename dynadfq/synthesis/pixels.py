"""Images from noise: pixels are what is optimized (ZeroQ, DSG, IntraQ, HAST, DynaDFQ)."""

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
from dynadfq.synthesis.source import Shard
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.teacher import Teacher


def gaussian(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Pixels from N(0, 1), in the scale of normalized images."""
    return torch.randn(shape, generator=rng)


@dataclass(frozen=True)
class ImageRecipe:
    """What an image is of, and what its pixels are optimized towards.

    labels: (count, rng) to (count, classes) soft labels.
    initial: (B, C, H, W) shape to starting pixels.
    augment: what happens to the images before each forward pass; differentiable.
    project: what happens to the pixels after each step.
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
        """The recipe, applied to a teacher."""
        return PixelSource(teacher, self, optimizer)


class PixelSource:
    """Makes shards by gradient descent on their pixels."""

    preparation_steps = 0

    def __init__(
        self, teacher: Teacher, recipe: ImageRecipe, optimizer: PixelOptimizerConfig
    ) -> None:
        self.teacher, self.recipe, self.optimizer = teacher, recipe, optimizer
        self.steps = optimizer.iterations if recipe.optimized else 0
        self.sequential = recipe.remember is not None

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Nothing comes before the first shard."""
        return {}

    def remember(self, batch: Batch) -> None:
        """Tell the recipe, if it wants to know."""
        if self.recipe.remember is not None:
            self.recipe.remember(batch)

    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Draw labels and starting pixels, and optimize.

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
        losses = {"total": float(total), **{name: float(value) for name, value in values.items()}}
        return Shard(
            images.detach().cpu().contiguous(),
            soft_labels,
            logits.cpu(),
            losses,
            self.recipe.objective.of_labels,
        )

    def _optimize(
        self,
        images: Tensor,
        soft_labels: Tensor,
        recording: Recording,
        rng: torch.Generator,
        progress: Progress,
    ) -> None:
        o, augment, project = self.optimizer, self.recipe.augment, self.recipe.project
        adam = torch.optim.Adam([images], lr=o.learning_rate)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            adam, factor=o.decay, patience=o.patience, min_lr=o.min_learning_rate
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
            progress.step(
                total=float(total.detach()),
                **{name: float(value.detach()) for name, value in values.items()},
            )

    def _losses(
        self, images: Tensor, soft_labels: Tensor, recording: Recording, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        recording.clear()
        logits = self.teacher(images)
        total, values = self.recipe.objective(
            SynthesisStep(images, soft_labels, logits, recording, rng=rng)
        )
        return total, values, logits
