"""Training of a float classifier on labelled data, where no teacher is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dynadfq.data import LabelledSet
from dynadfq.ops.augment import random_flip, random_shift
from dynadfq.ops.memory_format import fastest_memory_format
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.teacher.teacher import Teacher


@dataclass(frozen=True)
class TeacherRecipe:
    """SGD with Nesterov momentum under a one-cycle learning rate (Smith & Topin 2017, arXiv
    1708.07120).
    """

    epochs: int
    batch_size: int
    learning_rate: float  # the peak of the cycle
    momentum: float
    weight_decay: float
    crop_padding: int  # pixels
    horizontal_flip: bool


def train_teacher(
    module: nn.Module,
    data: LabelledSet,
    recipe: TeacherRecipe,
    seed: int,
    device: torch.device,
    scratch: Scratch,
) -> nn.Module:
    """Train ``module`` in place for ``recipe.epochs`` passes over ``data`` and return it in eval
    mode.

    State is saved to ``scratch`` after every epoch; a run that was killed goes on with the epoch it
    had not finished.

    Raises:
        ValueError: there are fewer images than a batch holds.
        NonFiniteLoss: the loss is NaN or infinite.
    """
    if recipe.batch_size > len(data):
        raise ValueError(
            f"teacher.batch_size: {recipe.batch_size} is more than the {len(data)} training images"
        )
    layout = fastest_memory_format(module, data.input_shape)
    module.to(device).to(memory_format=layout)
    optimizer = torch.optim.SGD(
        module.parameters(),
        recipe.learning_rate,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    steps = len(data) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.2
    )
    start = _resume(scratch, module, optimizer, schedule)
    with Progress("teacher", recipe.epochs * steps, done=start * steps, unit="step") as progress:
        for epoch in range(start, recipe.epochs):
            module.train()
            rng = generator(seed, "teacher", epoch)
            order = torch.randperm(len(data), generator=rng)[: steps * recipe.batch_size]
            for chosen in order.split(recipe.batch_size):
                images = data.normalize(data.pixels[chosen].to(device))
                if recipe.crop_padding:
                    images = random_shift(images, recipe.crop_padding, rng)
                if recipe.horizontal_flip:
                    images = random_flip(images, rng)
                logits = module(images.contiguous(memory_format=layout))
                loss = cross_entropy(logits, data.labels[chosen].to(device))
                require_finite({"label": loss}, step=progress.done)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.step(label=float(loss.detach()))
            _save(scratch, epoch + 1, module, optimizer, schedule)
    return module.eval()


def _save(scratch: Scratch, epoch: int, *parts: object) -> None:
    scratch.save({"epoch": epoch, "parts": [part.state_dict() for part in parts]})  # type: ignore[attr-defined]


def _resume(scratch: Scratch, *parts: object) -> int:
    state = scratch.load()
    if state is None:
        return 0
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)  # type: ignore[attr-defined]
    epoch: int = state["epoch"]
    return epoch


@torch.no_grad()
def accuracy(teacher: Teacher, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Top-1 accuracy in percent on batches of (B, C, H, W) images with (B,) labels."""
    right, seen = 0, 0
    for images, labels in batches:
        right += int((teacher(images.to(teacher.device)).argmax(dim=1).cpu() == labels).sum())
        seen += len(labels)
    return 100.0 * right / seen
