"""Training of a float classifier on labelled data, for a teacher without given weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dynadfq.data.labelled import LabelledSet
from dynadfq.ops.augment import random_flip, random_shift
from dynadfq.ops.memory_format import fastest_memory_format
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.teacher.config import TrainingConfig
from dynadfq.teacher.teacher import Teacher

MOMENTA = (0.85, 0.95)  # at the highest and at the lowest learning rate


def train_teacher(
    module: nn.Module,
    data: LabelledSet,
    recipe: TrainingConfig,
    seed: int,
    device: torch.device,
    scratch: Scratch,
) -> nn.Module:
    """Train a network in place.

    Args:
        module: the network.
        data: training images.
        recipe: hyperparameters.
        seed: of the order of images, their augmentation, and dropout.
        device: where to train.
        scratch: keeps the state after every epoch, from which an interrupted run resumes.

    Returns:
        ``module`` in eval mode.

    Raises:
        ValueError: there are fewer images than a batch holds.
        NonFiniteLoss: the loss is NaN or infinite.
    """
    if recipe.batch_size > len(data):
        raise InvalidArgument(
            "batch_size", f"{recipe.batch_size} is more than the {len(data)} training images"
        )
    memory_format = fastest_memory_format(module, data.input_shape)
    module.to(device).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(
        module.parameters(),
        recipe.learning_rate,
        MOMENTA[1],
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    steps = len(data) // recipe.batch_size
    total = recipe.epochs * steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=total,
        pct_start=0.2,
        base_momentum=MOMENTA[0],
        max_momentum=MOMENTA[1],
    )
    parts = (module, optimizer, schedule)
    start = _resume(scratch, *parts)
    with Progress("teacher", total, done=start * steps, unit="step") as progress:
        for epoch in range(start, recipe.epochs):
            module.train()
            rng = generator(seed, "teacher", epoch)
            order = torch.randperm(len(data), generator=rng)[: steps * recipe.batch_size]
            with global_stream(seed, "teacher", epoch):
                for chosen in order.split(recipe.batch_size):
                    images = data.normalize(data.pixels[chosen].to(device))
                    if recipe.crop_padding:
                        images = random_shift(images, recipe.crop_padding, rng)
                    if recipe.horizontal_flip:
                        images = random_flip(images, rng)
                    logits = module(images.contiguous(memory_format=memory_format))
                    loss = cross_entropy(logits, data.labels[chosen].to(device))
                    require_finite({"label": loss}, step=progress.done)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    progress.step(label=float(loss.detach()))
            states = [part.state_dict() for part in parts]
            scratch.save({"epoch": epoch + 1, "parts": states})
    return module.eval()


def _resume(scratch: Scratch, *parts: Any) -> int:
    """Load the states of an interrupted run, and return the epochs that it finished."""
    state = scratch.load()
    if state is None:
        return 0
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)
    epoch: int = state["epoch"]
    return epoch


@torch.no_grad()
def accuracy(teacher: Teacher, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the top-1 accuracy in percent.

    Args:
        teacher: the classifier.
        batches: (B, C, H, W) images with (B,) labels.
    """
    correct = 0
    seen = 0
    for images, labels in batches:
        predictions = teacher(images.to(teacher.device)).argmax(dim=1).cpu()
        correct += int((predictions == labels).sum())
        seen += len(labels)
    return 100.0 * correct / seen
