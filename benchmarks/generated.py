"""What a student's generator makes after it was trained beside the student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from dynadfq.runtime.resume import atomic_write
from dynadfq.runtime.seeding import generator
from dynadfq.training.online_generator import OnlineGeneratorBatches
from dynadfq.training.parts import BatchStream, TrainingContext
from dynadfq.training.recipe import StudentRecipe

COUNT = 64  # images, enough for one of each of several classes


def keeping(recipe: StudentRecipe) -> tuple[StudentRecipe, list[OnlineGeneratorBatches]]:
    """Return a recipe that does the same, and a list that will hold its online generator."""
    kept: list[OnlineGeneratorBatches] = []

    def batches(context: TrainingContext) -> BatchStream:
        stream = recipe.batches(context)
        if isinstance(stream, OnlineGeneratorBatches):
            kept.append(stream)
        return stream

    return replace(recipe, batches=batches), kept


@torch.no_grad()
def write_images(path: Path, stream: OnlineGeneratorBatches, seed: int) -> None:
    """Draw images as the training does, and write them; equal seeds give equal labels and noise."""
    batch = stream.training.draw(COUNT, generator(seed, "generated"))
    tensors = {name: tensor.cpu().contiguous() for name, tensor in batch._asdict().items()}
    atomic_write(path, safetensors.torch.save(tensors))
