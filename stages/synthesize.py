"""Stage ``synthesize``: images from the teacher alone, with soft labels, as shards."""

from __future__ import annotations

import sys
from pathlib import Path

import safetensors.torch

from dynadfq.methods import suggest_other_methods
from dynadfq.methods.base import MethodContext
from dynadfq.ops.precision import compute_precision, require_precision
from dynadfq.params import StageParams
from dynadfq.runtime import device, distributed
from dynadfq.runtime.resume import Scratch, digest
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.gate import gate_message
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.loading import load_teacher
from stages.artifacts import SIMILARITY, SYNTHETIC, TEACHER
from stages.runtime import begin, main


def make(
    p: StageParams, teacher_folder: Path, similarity_folder: Path, folder: Path
) -> SyntheticSet:
    """Make the images of an experiment in ``folder``."""
    where = device.resolve(p.device)
    require_precision(p.precision, where)
    teacher = load_teacher(teacher_folder).to(where)
    similarity = safetensors.torch.load_file(similarity_folder / "similarity.safetensors")[
        "similarity"
    ]
    recipe = p.method.images.recipe(MethodContext(teacher, similarity, p.seed))
    scratch = Scratch.of_stage(
        "synthesize", p.as_dict(), digest(teacher_folder), digest(similarity_folder)
    )
    source, sizes = (
        recipe.source(teacher, p.synthesis),
        (p.synthesis.num_images, p.synthesis.batch_size),
    )
    if source.sequential and distributed.world_size() > 1 and distributed.rank() == 0:
        print(
            "synthesize: these shards build on each other, so that rank 0 makes them all",
            file=sys.stderr,
        )
    with compute_precision(p.precision, where), suggest_other_methods():
        return synthesize_set(source, *sizes, p.seed, folder, scratch, storage=p.synthesis.storage)


def run() -> None:
    """Write artifacts/synthetic, and say on stderr whether the teacher recognizes it."""
    images = make(begin("synthesize"), TEACHER, SIMILARITY, SYNTHETIC)
    if distributed.rank() == 0:
        print(gate_message(images), file=sys.stderr)


if __name__ == "__main__":
    main(run, divisible=True)
