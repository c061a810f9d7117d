"""Fine-tuning of a student on synthetic images: the only student loop, for every method, fixed and dynamic widths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from dynadfq.checkpoint import Scratch
from dynadfq.log import Progress, require_finite
from dynadfq.losses import Objective, StudentStep, soft_cross_entropy
from dynadfq.methods.base import StudentRecipe
from dynadfq.quant.model import Student
from dynadfq.seeding import generator, global_stream
from dynadfq.synthesis.dataset import Batch, SyntheticSet
from dynadfq.teacher import Teacher
from dynadfq.training.augment import random_flip, random_resized_crop
from dynadfq.training.budget import Budget
from dynadfq.training.mixup import easiest, mix_pairs


@dataclass(frozen=True)
class Schedule:
    """SGD with Nesterov momentum; every rate falls by ``decay`` each ``decay_every`` epochs (DynaDFQ, Sec. 4.1)."""

    epochs: int = 400
    steps_per_epoch: int = 200
    batch_size: int = 256
    learning_rate: float = 1e-5
    range_learning_rate: float = 1e-5
    selector_learning_rate: float = 1e-3
    decay: float = 0.1
    decay_every: int = 100
    momentum: float = 0.9
    weight_decay: float = 1e-4
    crop_scale: float = 0.5
    horizontal_flip: bool = True


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
        self, student: Student, teacher: Teacher, recipe: StudentRecipe, schedule: Schedule, budget: Budget
    ) -> None:
        self.student, self.teacher, self.recipe, self.schedule, self.budget = student, teacher, recipe, schedule, budget
        self.optimizer = torch.optim.SGD(
            _parameter_groups(student, schedule), momentum=schedule.momentum, nesterov=True
        )
        self.rates = torch.optim.lr_scheduler.StepLR(self.optimizer, schedule.decay_every, schedule.decay)
        self.history: list[dict[str, float]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def run_epoch(self, images: SyntheticSet, seed: int, progress: Progress) -> None:
        """``steps_per_epoch`` steps, on a random stream of the epoch's own."""
        rng, epoch = generator(seed, "finetune", self.epoch), _Epoch()
        rate = self.optimizer.param_groups[0]["lr"]
        self.student.train()
        with global_stream(seed, "finetune", self.epoch):
            for indices in _indices(len(images), self.schedule, rng):
                values = self.step(images.take(indices), rng, progress.done)
                epoch.add(values)
                progress.step(**{name: values[name] for name in ("loss", "bit_flops_percent", "bit_flops_percent_std")})
        self.rates.step()
        done = (self.epoch + 1) * self.schedule.steps_per_epoch
        self.history.append({"epoch": self.epoch + 1, "step": done, "learning_rate": rate, **epoch.means()})

    def step(self, batch: Batch, rng: torch.Generator, number: int) -> dict[str, float]:
        """Augment, mix when it is time, forward, backward, update; what was measured, by name.

        Raises:
            NonFiniteLoss: a term is NaN or infinite; parameters are not updated.
        """
        images, labels = self._augment(batch, rng)
        teacher_logits = self._teach(images)
        measured: dict[str, float] = {}
        if self._mixing:
            images, labels, teacher_logits, measured = self._mix(images, labels, teacher_logits, rng)
        total, values, bits = self._losses(images, labels, teacher_logits)
        require_finite({**values, "loss": total}, number)
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.student.keep_zero_in_range()
        if "budget" in values:
            self.budget.update(values["budget"])
        percent = self.student.bit_flops_percent(bits.detach())
        measured |= {name: float(value.detach()) for name, value in values.items()}
        return measured | {
            "loss": float(total.detach()),
            "bit_flops_percent": float(percent.mean()),
            "bit_flops_percent_std": float(percent.std(correction=0)),
            "mean_bits": float(bits.detach().mean()),
            "price": self.budget.price,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on after the last finished epoch."""
        return {
            "network": self.student.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "price": self.budget.price,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.student.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.budget.price, self.history = state["price"], state["history"]

    @property
    def _mixing(self) -> bool:
        return self.recipe.mixup_share > 0 and self.epoch >= self.recipe.mixup_start * self.schedule.epochs

    def _augment(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        images = batch.images.to(self.teacher.device)
        if self.schedule.crop_scale < 1:
            images = random_resized_crop(images, self.schedule.crop_scale, rng)
        if self.schedule.horizontal_flip:
            images = random_flip(images, rng)
        return images.contiguous(memory_format=torch.channels_last), batch.soft_labels.to(images.device)

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Tensor:
        return self.teacher(images)

    @torch.no_grad()
    def _mix(
        self, images: Tensor, labels: Tensor, teacher_logits: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
        """Mix the easiest images; also what the losses would have been without."""
        logits, bits = self.student.run(images)
        _, values = self._objective(StudentStep(labels, logits, teacher_logits, self.student.bit_flops_ratio(bits)))
        chosen = easiest(soft_cross_entropy(logits, labels), self.recipe.mixup_share)
        images, labels = mix_pairs(images, labels, chosen, rng)
        teacher_logits = teacher_logits.index_copy(0, chosen, self.teacher(images[chosen]))
        return images, labels, teacher_logits, {f"{name}_unmixed": float(value) for name, value in values.items()}

    def _losses(
        self, images: Tensor, labels: Tensor, teacher_logits: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        logits, bits = self.student.run(images)
        total, values = self._objective(StudentStep(labels, logits, teacher_logits, self.student.bit_flops_ratio(bits)))
        return total, values, bits

    def _objective(self, step: StudentStep) -> tuple[Tensor, dict[str, Tensor]]:
        total, values = Objective(self.recipe.terms)(step)
        if not self.student.scheme.dynamic:
            return total, values
        budget = self.budget.value(step.bit_flops_ratio)
        return total + self.budget.factor(budget) * budget, {**values, "budget": budget}


def finetune_student(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    schedule: Schedule,
    budget: Budget,
    seed: int,
    scratch: Scratch,
) -> pd.DataFrame:
    """Fine-tune a calibrated student in place and return its history, one row an epoch; it is left in eval mode.

    State is saved to ``scratch`` after every epoch; a run that was killed repeats the unfinished epoch, with the same
    result.
    """
    run = Finetuning(student, teacher, recipe, schedule, budget)
    if (state := scratch.load()) is not None:
        run.load_state_dict(state)
    name = "finetune" if student.scheme.dynamic else "finetune_fixed"
    with Progress(name, schedule.epochs * schedule.steps_per_epoch, run.epoch * schedule.steps_per_epoch) as progress:
        while run.epoch < schedule.epochs:
            run.run_epoch(images, seed, progress)
            scratch.save(run.state_dict())
    student.eval()
    return pd.DataFrame(run.history)


def _indices(images: int, schedule: Schedule, rng: torch.Generator) -> list[Tensor]:
    """One epoch's batches: as many shuffled passes over the images as its steps need, (B,) indices each."""
    needed = schedule.steps_per_epoch * schedule.batch_size
    passes = [torch.randperm(images, generator=rng) for _ in range(-(-needed // images))]
    return list(torch.cat(passes)[:needed].split(schedule.batch_size))


def _parameter_groups(student: Student, schedule: Schedule) -> list[dict[str, Any]]:
    """The network, the ranges (no weight decay) and the selector, each at its own rate."""
    ranges = [parameter for site in student.sites for parameter in site.parameters() if parameter.requires_grad]
    selector: list[nn.Parameter] = list(student.selector.parameters()) if student.selector else []
    apart = {id(parameter) for site in student.sites for parameter in site.parameters()} | {id(p) for p in selector}
    network = [parameter for parameter in student.network.parameters() if id(parameter) not in apart]
    groups = [
        {"params": network, "lr": schedule.learning_rate, "weight_decay": schedule.weight_decay},
        {"params": ranges, "lr": schedule.range_learning_rate, "weight_decay": 0.0},
        {"params": selector, "lr": schedule.selector_learning_rate, "weight_decay": schedule.weight_decay},
    ]
    return [group for group in groups if group["params"]]
