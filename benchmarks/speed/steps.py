"""Ratios 1 to 3: a synthesis step, a fine-tuning step and an evaluation, each beside the least that
it could be.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch.nn.functional import cross_entropy

from benchmarks.speed.networks import Bench
from benchmarks.speed.ratio import Result, alternate, summed_up
from dynadfq.export.integer_form import to_integer_form
from dynadfq.losses.budget import Budget
from dynadfq.losses.objective import StudentStep
from dynadfq.methods.base import MethodContext
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import Basis, PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.similarity import class_similarity
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.finetune import Finetuning
from dynadfq.training.optimizer import sgd
from dynadfq.training.parts import TrainingBatch, TrainingContext

CANDIDATES = (3, 4, 5)  # bits
ITERATIONS = 3  # of synthesis in one measurement, so that what a shard prepares once weighs little


def synthesis(bench: Bench) -> Result:
    """Compare DynaDFQ's step on pixels with forward pass and input gradient of the bare network."""
    work = Synthesis(bench)
    pairs = alternate(work.steps, work.bare, bench.network.rounds, bench.device)
    name = f"synthesis step / forward and input gradient of the bare network ({bench.title})"
    return summed_up(
        1, name, pairs, _aim(bench, (1.10, 1.25)), note=f"{ITERATIONS} iterations at a time"
    )


class Synthesis:
    """Some iterations of the pixel optimizer, all of their parts included."""

    def __init__(self, bench: Bench, basis: Basis = "pixels") -> None:
        self.bench, self.rng = bench, generator(0, "synthesis", 0)
        recipe = DynaDFQ().images.recipe(
            MethodContext(bench.teacher, class_similarity(bench.teacher), 0)
        )
        settings = PixelOptimizerConfig(iterations=ITERATIONS, basis=basis)
        self.source = recipe.source(bench.teacher, settings)
        self.module = copy.deepcopy(bench.teacher.module)

    def bare(self) -> None:
        """Run forward pass and input gradient, the least that a method must compute."""
        for _ in range(ITERATIONS):
            images = self.bench.images.detach().requires_grad_()
            torch.autograd.grad(cross_entropy(self.module(images), self.bench.labels), images)

    def steps(self) -> None:
        """Run the optimizer's steps with all their parts."""
        images = self.bench.images.clone(memory_format=torch.preserve_format)
        with (
            self.bench.teacher.recording() as recording,
            Progress("benchmark", 10**9, interval=1e9) as progress,
        ):
            self.source._optimize(images, self.bench.soft_labels, recording, self.rng, progress)


def finetuning(bench: Bench, fixed: bool = False) -> Result:
    """Compare a dynamic step with a float step, both with the teacher's forward pass."""
    student = finetuning_step(bench, CANDIDATES[1] if fixed else CANDIDATES)
    pairs = alternate(student, float_step(bench), bench.network.rounds, bench.device)
    kind = "fixed" if fixed else f"dynamic (M = {len(CANDIDATES)})"
    name = f"{kind} fine-tuning step / float training step and teacher ({bench.title})"
    return summed_up(2, name, pairs, None if fixed else _aim(bench, (1.35, 1.5)))


def finetuning_step(
    bench: Bench, bits: int | tuple[int, ...], answered: bool = False
) -> Callable[[], object]:
    """DynaDFQ's step on one batch that its teacher has just seen, or had ``answered`` before; mixup
    has not begun.
    """
    student = bench.student(bits)
    batches = _OneBatch(bench, answered)
    schedule = FinetuneConfig()
    selector = SelectorTrainingConfig()
    dynamic = student.scheme.dynamic
    budget = Budget(selector.budget, selector.bit_weight) if dynamic else None
    optimizer = sgd(student, schedule, selector.learning_rate)
    images = cast(SyntheticSet, None)  # the loss reads no set
    context = TrainingContext(student, bench.teacher, images, schedule, budget)
    run = Finetuning(context, batches, DynaDFQ().student.loss(context), optimizer)
    stream = batches.epoch(0, generator(0, "finetune", 0))
    student.train()
    return lambda: run.step(next(stream), 0)


class _OneBatch:
    """The same images again and again, answered by the teacher each time or once."""

    def __init__(self, bench: Bench, answered: bool) -> None:
        self.bench, self.answers = bench, self._ask(bench) if answered else None

    def epoch(self, number: int, rng: torch.Generator) -> Iterator[TrainingBatch]:
        bench = self.bench
        while True:
            answers = self._ask(bench) if self.answers is None else self.answers
            yield TrainingBatch(bench.images, bench.soft_labels, answers)

    @staticmethod
    @torch.no_grad()
    def _ask(bench: Bench) -> torch.Tensor:
        return bench.teacher(bench.images)

    def state_dict(self) -> Mapping[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


def float_step(bench: Bench) -> Callable[[], object]:
    """Return a step of the float network with the same losses, BatchNorm in eval mode."""
    network = copy.deepcopy(bench.teacher.module).requires_grad_(True)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-5, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    terms = DynaDFQ().student.terms()
    no_cost = torch.zeros(len(bench.images), device=bench.device)

    def step() -> object:
        with torch.no_grad():
            answers = bench.teacher(bench.images)
        one = StudentStep(bench.soft_labels, network(bench.images), answers, no_cost)
        values = [term.weight * term.value(one) for term in terms]
        total = torch.stack(values).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return float(total.detach())

    return step


def evaluation(bench: Bench) -> Result:
    """Compare the integer forms of a dynamic student and of one of fixed width."""
    dynamic, fixed = (
        to_integer_form(bench.student(bits)).to(bench.device)
        for bits in (CANDIDATES, CANDIDATES[1])
    )
    pairs = alternate(
        lambda: dynamic.run(bench.images),
        lambda: fixed.run(bench.images),
        bench.network.rounds,
        bench.device,
    )
    return summed_up(3, f"dynamic / fixed evaluation, integer form ({bench.title})", pairs, 1.1)


def _aim(bench: Bench, aims: tuple[float, float]) -> float:
    return aims[bench.device.type == "cuda"]
