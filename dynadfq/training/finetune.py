"""Fine-tuning of a student on synthetic images: the only student loop, for every method, fixed and
dynamic widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dynadfq.losses.budget import Budget
from dynadfq.losses.objective import Objective, StudentStep, Term, soft_cross_entropy
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.batches import BatchStream, TrainingBatch
from dynadfq.training.compare import compare
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.mixup import easiest, mix_pairs
from dynadfq.training.online_generator import batch_stream
from dynadfq.training.optimizer import sgd
from dynadfq.training.ranks import divided, require_divisible
from dynadfq.training.recipe import StudentRecipe

Losses = tuple[Tensor, dict[str, Tensor], Tensor]  # their sum, each by name, and the bits in use

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "loss",
    "bit_flops_percent",
    "bit_flops_percent_std",
    "mean_bits",
    "multiplier",
)


@dataclass
class _Epoch:
    """Running sums of what one epoch's steps reported."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}


class Finetuning:
    """One run: everything that changes from step to step, and so everything a checkpoint holds."""

    def __init__(
        self,
        student: Student,
        teacher: Teacher,
        batches: BatchStream,
        recipe: StudentRecipe,
        schedule: FinetuneConfig,
        selector: SelectorTrainingConfig,
    ) -> None:
        self.student, self.teacher, self.batches = student, teacher, batches
        self.recipe, self.schedule = recipe, schedule
        self.budget = Budget(selector.budget, selector.bit_weight)
        self.part = distributed.part()
        self.features = recipe.features(teacher) if recipe.features else {}
        self.optimizer = sgd(student, schedule, selector.learning_rate)
        self.rates = torch.optim.lr_scheduler.StepLR(
            self.optimizer, schedule.decay_every, schedule.decay
        )
        self.history: list[dict[str, float]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def run_epoch(self, seed: int, progress: Progress) -> None:
        """``steps_per_epoch`` steps, on a random stream of the epoch's own."""
        rng, epoch = generator(seed, "finetune", self.epoch), _Epoch()
        rate = self.optimizer.param_groups[0]["lr"]
        self.student.train()
        with global_stream(seed, "finetune", self.epoch):
            for batch in self.batches.epoch(rng):
                values = self.step(batch, rng, progress.done)
                epoch.add(values)
                progress.step(
                    **{
                        name: values[name]
                        for name in ("loss", "bit_flops_percent", "bit_flops_percent_std")
                    }
                )
        self.rates.step()
        done = (self.epoch + 1) * self.schedule.steps_per_epoch
        self.history.append(
            {"epoch": self.epoch + 1, "step": done, "learning_rate": rate, **epoch.means()}
        )

    def step(self, batch: TrainingBatch, rng: torch.Generator, number: int) -> dict[str, float]:
        """Mix when it is time, forward, backward, update; what was measured, by name.

        Raises:
            NonFiniteLoss: a term is NaN or infinite; parameters are not updated.
        """
        measured = dict(batch.measured)
        if self._mixing:
            batch, unmixed = self._mix(batch, rng)
            measured |= unmixed
        total, values, bits = (
            self._perturbed_losses(batch) if self.recipe.perturbation else self._losses(batch)
        )
        values = distributed.means({**values, "loss": total})
        require_finite(values, number)
        self.optimizer.zero_grad()
        total.backward()
        distributed.average_gradients(self.student.parameters())
        self.optimizer.step()
        self.student.keep_zero_in_range()
        if "budget" in values:
            self.budget.update(values["budget"])
        bits = distributed.gather(bits.detach())
        percent = self.student.bit_flops_percent(bits)
        measured |= {name: float(value.detach()) for name, value in values.items()}
        return measured | {
            "bit_flops_percent": float(percent.mean()),
            "bit_flops_percent_std": float(percent.std(correction=0)),
            "mean_bits": float(bits.mean()),
            "multiplier": self.budget.multiplier,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on after the last finished epoch."""
        return {
            "network": self.student.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "batches": dict(self.batches.state_dict()),
            "multiplier": self.budget.multiplier,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.student.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.batches.load_state_dict(state["batches"])
        self.budget.multiplier, self.history = state["multiplier"], state["history"]

    @property
    def _mixing(self) -> bool:
        return (
            self.recipe.mixup_share > 0
            and self.epoch >= self.recipe.mixup_start * self.schedule.epochs
        )

    @torch.no_grad()
    def _mix(
        self, batch: TrainingBatch, rng: torch.Generator
    ) -> tuple[TrainingBatch, dict[str, float]]:
        """Mix the easiest images of the whole batch; also what the losses would have been
        without.
        """
        step, _ = compare(self.student, self.teacher, batch, self.features)
        unmixed = distributed.means(self._sum(step, self.recipe.terms)[1])
        losses = distributed.gather(soft_cross_entropy(step.logits, step.soft_labels))
        chosen = easiest(losses, self.recipe.mixup_share)
        everyone = distributed.gather(batch.images), distributed.gather(batch.soft_labels)
        images, labels = map(self.part.of, mix_pairs(*everyone, chosen, rng))
        images = images.contiguous(memory_format=self.teacher.memory_format)
        own, teacher_logits = self.part.indices(chosen, len(images)), batch.teacher_logits
        if len(own):
            teacher_logits = teacher_logits.index_copy(0, own, self.teacher(images[own]))
        return TrainingBatch(images, labels, teacher_logits), {
            f"{k}_unmixed": float(v) for k, v in unmixed.items()
        }

    def _losses(self, batch: TrainingBatch) -> Losses:
        through = self.recipe.teacher_gradients
        if through:
            batch = batch._replace(images=batch.images.detach().requires_grad_())
        return self._evaluate(batch, self.recipe.terms, through)

    def _perturbed_losses(self, batch: TrainingBatch) -> Losses:
        """The loss, and the loss where the images were moved to raise it (HAST's sample difficulty
        promotion).
        """
        recipe, images = self.recipe, batch.images.detach().requires_grad_()
        total, values, bits = self._evaluate(
            batch._replace(images=images), recipe.terms, through_teacher=True
        )
        (slope,) = torch.autograd.grad(total, images, retain_graph=True)
        moved = (images + recipe.perturbation * slope.sign()).detach()
        with torch.no_grad():
            answers = (
                batch.teacher_logits if self.features else self.teacher(moved)
            )  # features come with answers
        taught = TrainingBatch(moved, batch.soft_labels, answers)
        terms = recipe.terms if recipe.perturbed_terms is None else recipe.perturbed_terms
        again, more, _ = self._evaluate(taught, terms, through_teacher=False)
        return (
            total + again,
            values | {f"{name}_perturbed": value for name, value in more.items()},
            bits,
        )

    def _evaluate(
        self, batch: TrainingBatch, terms: Sequence[Term[StudentStep]], through_teacher: bool
    ) -> Losses:
        step, bits = compare(self.student, self.teacher, batch, self.features, through_teacher)
        return (*self._sum(step, terms), bits)

    def _sum(
        self, step: StudentStep, terms: Sequence[Term[StudentStep]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        total, values = Objective(terms)(step)
        if not self.student.scheme.dynamic:
            return total, values
        budget = self.budget.value(step.bit_flops_ratio)
        mean = distributed.mean(budget)
        total = total + self.budget.factor(mean) * budget - self.budget.surplus(mean)
        return total, {**values, "budget": budget}


def finetune_student(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    schedule: FinetuneConfig,
    selector: SelectorTrainingConfig,
    seed: int,
    scratch: Scratch,
) -> pd.DataFrame:
    """Fine-tune a prepared student in place and return its history, one row an epoch; it is left in
    eval mode.

    A recipe without terms, or whose terms all have weight 0, trains nothing. State is saved to
    ``scratch`` after every epoch; a run that was killed repeats the unfinished epoch, with the same
    result. Ranks (``dynadfq.runtime.distributed``) divide every batch, and begin with the first
    one's student and state.

    Raises:
        ValueError: the ranks cannot divide the batch evenly, or a generator is to learn on beside
            several.
    """
    student.eval()
    if not any(term.weight for term in recipe.terms):
        return pd.DataFrame(columns=list(COLUMNS))
    require_divisible(recipe, schedule.batch_size)
    batches = batch_stream(student, teacher, images, recipe, schedule)
    run = Finetuning(student, teacher, batches, recipe, schedule, selector)
    distributed.share_state(student.network)
    if (state := distributed.from_first(scratch.load)) is not None:
        run.load_state_dict(state)
    name = "finetune" if student.scheme.dynamic else "finetune_fixed"
    steps = schedule.steps_per_epoch
    with Progress(name, schedule.epochs * steps, run.epoch * steps) as progress, divided(student):
        while run.epoch < schedule.epochs:
            run.run_epoch(seed, progress)
            if distributed.rank() == 0:
                scratch.save(run.state_dict())
    student.eval()
    return pd.DataFrame(run.history)
