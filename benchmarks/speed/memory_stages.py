"""One stage, alone in this process, and what the kernel says of its memory;
``benchmarks.speed.memory`` starts it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from dynadfq.methods.base import MethodContext
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.quant.config import Scheme
from dynadfq.runtime.resume import Scratch, digest
from dynadfq.synthesis.config import PixelOptimizerConfig, Storage
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.finetune import finetune_student
from dynadfq.training.prepare import new_student, prepare_student

BATCH = 64  # images in a shard and in a step
SAMPLING = 0.002  # seconds between looks at RssAnon


def memory(field: str) -> float:
    """Return a field of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) / 1024


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Measure this block: largest RssAnon and VmHWM in MiB, seconds of CPU time; complete at its
    end.
    """
    taken, over, start = {"anonymous": memory("RssAnon")}, threading.Event(), time.process_time()

    def watch() -> None:
        while not over.wait(SAMPLING):
            taken["anonymous"] = max(taken["anonymous"], memory("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()
        taken |= {"all": memory("VmHWM"), "seconds": time.process_time() - start}


def small_teacher(shape: tuple[int, int, int], classes: int) -> Teacher:
    """Return a teacher of two convolutions, whose activations are smaller than its images."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(shape[0], 8, 3, 4, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 4, 1),
    )
    tail = (
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )
    return Teacher(
        nn.Sequential(*layers, *tail), shape, classes, [0.5] * shape[0], [0.25] * shape[0]
    )


def synthesize(teacher: Teacher, images: int, folder: Path, storage: Storage) -> None:
    """Make images with one step per batch, through a scratch folder as in the pipeline."""
    recipe = DynaDFQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0))
    scratch = Scratch(folder.with_suffix(".scratch"))
    source = recipe.source(teacher, PixelOptimizerConfig(iterations=1))
    synthesize_set(source, images, BATCH, 0, folder, scratch, storage=storage)


def finetune(teacher: Teacher, folder: Path) -> None:
    """Fine-tune for one shuffled epoch, with the same preparation as the stage."""
    images, recipe = SyntheticSet(folder).check(), DynaDFQ().student.recipe()
    digest(folder)
    student = new_student(
        teacher, recipe, Scheme(weight_bits=4, activation_bits=(3, 4, 5), target_bits=4), 0
    )
    prepare_student(
        student,
        teacher,
        images,
        recipe,
        0,
        selector=SelectorTrainingConfig(warm_up_images=256, warm_up_steps=10),
    )
    schedule = FinetuneConfig(epochs=1, steps_per_epoch=-(-len(images) // BATCH), batch_size=BATCH)
    finetune_student(
        student, teacher, images, recipe, schedule, SelectorTrainingConfig(), 0, Scratch(None)
    )


def main() -> None:
    """Run the stage that the one argument, a JSON object, asks for; print what it took as JSON."""
    order = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    channels, height, width = order["shape"]
    teacher, folder = (
        small_teacher((channels, height, width), order["classes"]),
        Path(order["folder"]),
    )
    with watched() as taken:
        if order["stage"] == "synthesize":
            synthesize(teacher, order["images"], folder, order["storage"])
        else:
            finetune(teacher, folder)
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
