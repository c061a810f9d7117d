"""Images from noise: the pixels are optimized (ZeroQ, DSG, IntraQ, HAST, DynaDFQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from dynadfq.losses.image_priors import clipping
from dynadfq.losses.objective import Objective, SynthesisStep
from dynadfq.ops.image_basis import CosineBasis, PixelBasis
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import Basis, PixelOptimizerConfig
from dynadfq.synthesis.dataset import Batch
from dynadfq.synthesis.labels import LabelSampler
from dynadfq.synthesis.source import Shard, as_numbers
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.teacher import Teacher

BASES: dict[Basis, type[PixelBasis | CosineBasis]] = {"pixels": PixelBasis, "cosines": CosineBasis}


def gaussian(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return pixels from N(0, 1), in the scale of normalized images."""
    return torch.randn(shape, generator=rng)


@dataclass(frozen=True)
class ImageRecipe:
    """The labels of images, and the objective of their pixels.

    labels: (count, rng) to (count, classes) soft labels.
    objective: what the pixels minimize.
    initial: (B, C, H, W) shape to starting pixels, which are noise.
    augment: applied to the images before each forward pass; differentiable.
    project: applied to the pixels after each step; the optimizer's ``clip`` comes after it.
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


def schedule(
    adam: torch.optim.Adam, settings: PixelOptimizerConfig, steps: int
) -> Callable[[Tensor], bool]:
    """Return a function that is told each step's loss and lowers Adam's learning rate.

    Args:
        adam: of one batch, at its initial learning rate.
        settings: how the rate falls.
        steps: so many there are; the line ends with them.

    Returns:
        A function of a step's loss, a scalar. It returns whether further steps would gain nothing:
        the loss has stopped decreasing at the least rate, and ``settings.stop`` is set.
    """
    least = settings.min_learning_rate
    if settings.schedule == "linear":
        last_factor = min(1.0, least / settings.learning_rate)
        line = torch.optim.lr_scheduler.LinearLR(adam, 1.0, last_factor, steps)

        def linearly(loss: Tensor) -> bool:
            line.step()
            return False

        return linearly
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        adam, factor=settings.decay, patience=settings.patience, min_lr=least
    )

    def on_plateau(loss: Tensor) -> bool:
        last = adam.param_groups[0]["lr"] - least <= plateau.eps  # a smaller decay is none
        best = plateau.best
        plateau.step(loss)
        # Patience has ended where the steps without a lower loss are counted from 0 again.
        ended = plateau.num_bad_epochs == 0 and plateau.best == best
        return settings.stop and last and ended

    return on_plateau


def _projected(images: Tensor, projections: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    return reduce(lambda pixels, project: project(pixels), projections, images)


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
        if self.steps:
            recipe.objective.require_weight()
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
        images = self._formatted(start.to(self.teacher.device))
        targets = soft_labels.to(images.device)
        with self.teacher.recording() as recording:
            spent = 0
            if self.steps:
                images, spent = self._optimize(images, targets, recording, rng, progress)
                progress.skip(self.steps - spent)
            with torch.no_grad():
                total, values, logits = self._losses(images, targets, recording, rng)
        require_finite(values, spent)
        finished = images.detach().cpu().contiguous()
        losses = as_numbers(total, values)
        of_labels = self.recipe.objective.of_labels
        return Shard(finished, soft_labels, logits.cpu(), losses, of_labels, spent)

    def _optimize(
        self,
        start: Tensor,
        soft_labels: Tensor,
        recording: Recording,
        rng: torch.Generator,
        progress: Progress,
    ) -> tuple[Tensor, int]:
        """Return optimized images, and the steps that they took."""
        settings = self.optimizer
        augment = self.recipe.augment
        clip = clipping(self.teacher) if settings.clip else None
        projections = [rule for rule in (self.recipe.project, clip) if rule is not None]
        height, width = start.shape[2:]
        basis = BASES[settings.basis](height, width, start.device)
        moved = basis.from_noise(start).requires_grad_()
        betas = settings.beta1, settings.beta2
        adam = torch.optim.Adam([moved], lr=settings.learning_rate, betas=betas)
        lower_rate = schedule(adam, settings, self.steps)
        for iteration in range(self.steps):
            images = self._formatted(basis.images(moved))
            seen = images if augment is None else augment(images, rng)
            total, values, _ = self._losses(seen, soft_labels, recording, rng)
            require_finite(values, iteration)
            (moved.grad,) = torch.autograd.grad(total, moved)
            adam.step()
            if projections:
                projected = _projected(basis.images(moved.detach()), projections)
                moved.data.copy_(basis.coefficients(projected))
            progress.step(**as_numbers(total, values))
            if lower_rate(total.detach()):
                break
        # What the basis rounds may be beyond by the last digit.
        finished = _projected(basis.images(moved.detach()), projections)
        return self._formatted(finished), iteration + 1

    def _formatted(self, images: Tensor) -> Tensor:
        """Return images in the memory format that the teacher is fastest in."""
        return images.contiguous(memory_format=self.teacher.memory_format)

    def _losses(
        self, images: Tensor, soft_labels: Tensor, recording: Recording, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The objective, its terms by name, and the teacher's logits."""
        recording.clear()
        logits = self.teacher(images)
        step = SynthesisStep(images, soft_labels, logits, recording, rng=rng)
        total, values = self.recipe.objective(step)
        return total, values, logits
