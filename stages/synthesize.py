"""Stage ``synthesize``: images from the teacher alone, with soft labels, as shards."""

from __future__ import annotations

import sys

import safetensors.torch

from dynadfq import device
from dynadfq.artifacts import SIMILARITY, SYNTHETIC, TEACHER
from dynadfq.checkpoint import Scratch, digest
from dynadfq.synthesis.gate import gate_message
from dynadfq.synthesis.pixels import PixelOptimiser
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher import load_teacher
from stages.runtime import begin, main


def run() -> None:
    """Write artifacts/synthetic, and say on stderr whether the teacher recognises it."""
    p = begin("synthesize")
    teacher = load_teacher(TEACHER).to(device.resolve(p.device))
    similarity = safetensors.torch.load_file(SIMILARITY / "similarity.safetensors")["similarity"]
    recipe = p.method.images.recipe(similarity)
    optimiser = PixelOptimiser(**p.synthesis.model_dump(exclude={"num_images", "batch_size"}))
    scratch = Scratch.of_stage("synthesize", p.as_dict(), digest(TEACHER), digest(SIMILARITY))
    images = synthesize_set(
        teacher,
        recipe.labels,
        recipe.objective,
        optimiser,
        p.synthesis.num_images,
        p.synthesis.batch_size,
        p.seed,
        SYNTHETIC,
        scratch,
    )
    print(gate_message(images), file=sys.stderr)


if __name__ == "__main__":
    main(run)
