"""Fine-tuning of a student on synthetic images: one loop for every method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pandas as pd
import torch

from dynadfq.losses.budget import Budget
from dynadfq.quant.bits import widths_or_float
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import AGREEMENT, EarlyStopping
from dynadfq.training.optimizer import clip_gradient, gradient_norm, sgd, weights
from dynadfq.training.parts import BatchLoss, BatchStream, TrainingBatch, TrainingContext
from dynadfq.training.ranks import divided, require_divisible
from dynadfq.training.recipe import StudentRecipe

COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "loss",
    "gradient_norm",
    "bit_flops_percent",
    "bit_flops_percent_std",
    "mean_bits",
    "multiplier",
)
SHOWN = ("loss", "bit_flops_percent", "bit_flops_percent_std")  # on the progress bar


class Finetuning:
    """The state of one run.

    Args:
        context: the student, which is trained in place; the schedule; and the bit-FLOPs budget of
            a dynamic student, whose multiplier moves after each step.
        batches: stream of batches.
        loss: maps a batch to its loss.
        optimizer: updates the student's parameters.
        stopping: measures each epoch; None keeps the last one.
    """

    def __init__(
        self,
        context: TrainingContext,
        batches: BatchStream,
        loss: BatchLoss,
        optimizer: torch.optim.Optimizer,
        stopping: EarlyStopping | None = None,
    ) -> None:
        self.context = context
        self.student = context.student
        self.weights = weights(context.student)
        self.budget = context.budget
        self.batches = batches
        self.loss = loss
        self.optimizer = optimizer
        self.stopping = stopping
        schedule = context.schedule
        self.rates = torch.optim.lr_scheduler.StepLR(
            optimizer, schedule.decay_every, schedule.decay
        )
        self.history: list[dict[str, float]] = []

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def taken(self) -> int:
        """Number of steps of the finished epochs."""
        return min(self.epoch * self.context.steps_per_epoch, self.context.steps)

    @property
    def is_over(self) -> bool:
        """Whether all epochs were trained, or no later one is expected to be better."""
        stopped = self.stopping is not None and self.stopping.is_over(self.history)
        return stopped or self.epoch >= self.context.epochs

    def run_epoch(self, seed: int, progress: Progress) -> None:
        """Take the steps of the next epoch with its random stream."""
        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        rng = generator(seed, "finetune", self.epoch)
        rate = self.optimizer.param_groups[0]["lr"]
        before = self.history[-1] if self.history else {}
        agreement = {name: before[name] for name in (AGREEMENT,) if name in before}
        self.student.train()
        with global_stream(seed, "finetune", self.epoch):
            left = self.context.steps - self.taken
            for batch in islice(self.batches.epoch(self.epoch, rng), left):
                values = self.step(batch, progress.done)
                for name, value in values.items():
                    sums[name] += value
                    counts[name] += 1
                progress.step(**{name: values[name] for name in SHOWN}, **agreement)
        self.rates.step()
        means = {name: total / counts[name] for name, total in sums.items()}
        self.history.append({"epoch": self.epoch + 1, "step": 0, "learning_rate": rate, **means})
        self.history[-1]["step"] = self.taken
        if self.stopping is not None:
            self.history[-1] |= self.stopping.measure()
            self.stopping.keep(self.history)

    def step(self, batch: TrainingBatch, number: int) -> dict[str, float]:
        """Compute the loss, its gradient, and update the parameters.

        Returns:
            What was measured, by name.

        Raises:
            NonFiniteLoss: a term or the gradient is NaN or infinite; parameters are not updated.
        """
        loss = self.loss(batch)
        values = distributed.means({**loss.terms, "loss": loss.total})
        require_finite(values, number)
        self.optimizer.zero_grad()
        loss.total.backward()
        distributed.average_gradients(self.student.parameters())
        require_finite({"gradient": gradient_norm(self.student.parameters())}, number)
        norm = gradient_norm(self.weights)
        clip_gradient(self.weights, norm, self.context.schedule.max_gradient_norm)
        self.optimizer.step()
        self.student.keep_zero_in_range()
        if self.budget is not None:
            self.budget.update(values["budget"])
        bits = distributed.gather(loss.bits.detach())
        percent = self.student.bit_flops_percent(bits)
        return {
            **batch.measured,
            **{name: float(value.detach()) for name, value in values.items()},
            "gradient_norm": float(norm),
            "bit_flops_percent": float(percent.mean()),
            "bit_flops_percent_std": float(percent.std(correction=0)),
            "mean_bits": float(widths_or_float(bits).mean()),
            "multiplier": 0.0 if self.budget is None else self.budget.multiplier,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to continue after the last finished epoch."""
        return {
            "network": self.student.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "batches": dict(self.batches.state_dict()),
            "multiplier": 0.0 if self.budget is None else self.budget.multiplier,
            "history": self.history,
            "stopping": None if self.stopping is None else self.stopping.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.student.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.batches.load_state_dict(state["batches"])
        self.history = state["history"]
        if self.budget is not None:
            self.budget.multiplier = state["multiplier"]
        if self.stopping is not None:
            self.stopping.load_state_dict(state["stopping"])


@contextmanager
def passing_clipped(student: Student, passes: bool) -> Iterator[None]:
    """Let ranges without gradients pass on, or not, that of the activations which they clip."""
    for site in student.sites:
        site.passes_clipped = passes
    try:
        yield
    finally:
        for site in student.sites:
            site.passes_clipped = False


def finetune_student(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    schedule: FinetuneConfig,
    selector: SelectorTrainingConfig,
    seed: int,
    scratch: Scratch,
    held_back: SyntheticSet | None = None,
) -> pd.DataFrame:
    """Fine-tune a prepared student in place and leave it in eval mode, after an exception too.

    Where ``recipe.loss_to_train`` returns None nothing is trained. The state is saved to
    ``scratch`` after every epoch; a run that was killed repeats the unfinished epoch, with the same
    result. Ranks (``dynadfq.runtime.distributed``) divide every batch, and begin with the student
    and the state of the first one.

    Args:
        student: what is trained.
        teacher: the float network.
        images: what the student learns from.
        recipe: the method's.
        schedule: steps and rates.
        selector: training of the bit selector, and the bit budget.
        seed: of every random choice.
        scratch: state of unfinished work.
        held_back: images that early stopping measures agreement on; None keeps the last epoch.

    Returns:
        The history, one row per epoch.

    Raises:
        ValueError: the ranks cannot divide the batch evenly, or a generator is to learn beside the
            student of several ranks.
        NonFiniteLoss: a term or the gradient became NaN or infinite.
    """
    student.eval()
    dynamic = student.scheme.dynamic
    drawn = dynamic and selector.any_width
    chooses = dynamic and not drawn
    budget = Budget(selector.budget, selector.bit_weight) if chooses else None
    context = TrainingContext(student, teacher, images, schedule, budget, drawn)
    loss = recipe.loss_to_train(context)
    if loss is None:
        return pd.DataFrame(columns=list(COLUMNS))
    require_divisible(recipe, schedule.batch_size)
    optimizer = sgd(student, schedule, selector.learning_rate)
    stopping = None if held_back is None else EarlyStopping(context, held_back, seed)
    run = Finetuning(context, recipe.batches(context), loss, optimizer, stopping)
    distributed.share_state(student.network)
    if (state := distributed.from_first(scratch.load)) is not None:
        run.load_state_dict(state)
    stage = "finetune" if dynamic else "finetune_fixed"
    try:
        with (
            Progress(stage, context.steps, run.taken) as progress,
            divided(student),
            passing_clipped(student, schedule.clipped_gradient),
        ):
            while not run.is_over:
                run.run_epoch(seed, progress)
                if distributed.rank() == 0:
                    scratch.save(run.state_dict())
            progress.skip(context.steps - run.taken)
    finally:
        student.eval()
    if stopping is not None:
        stopping.restore(run.history)
    return pd.DataFrame(run.history)
