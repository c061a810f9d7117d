"""Stage ``synthesize``: images from the teacher alone, with soft labels, as shards."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import SerializeAsAny

from dynadfq.methods import suggest_other_methods
from dynadfq.methods.base import ImagesConfig, MethodContext
from dynadfq.ops.config import PrecisionChoice
from dynadfq.ops.precision import compute_precision, synthesis_precision
from dynadfq.params import View
from dynadfq.runtime import device, distributed
from dynadfq.runtime.resume import digest
from dynadfq.synthesis.config import SynthesisConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.gate import gate_message
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.similarity_file import read_similarity
from stages.artifacts import SIMILARITY, SYNTHETIC, TEACHER
from stages.runtime import TeacherName, main, unfinished


class MethodImages(View):
    """The method, without its student."""

    name: str
    preset: str
    images: SerializeAsAny[ImagesConfig]


class SynthesizeParams(View):
    """What this stage declares in dvc.yaml."""

    seed: int
    device: str
    precision: PrecisionChoice
    teacher: TeacherName
    synthesis: SynthesisConfig
    method: MethodImages


def make(
    p: SynthesizeParams, teacher_folder: Path, similarity_folder: Path, folder: Path
) -> SyntheticSet:
    """Make the images of an experiment in ``folder``."""
    where = device.resolve(p.device)
    precision = distributed.from_first(lambda: synthesis_precision(p.precision, where))
    teacher = load_teacher(teacher_folder, trust=(p.teacher.architecture,)).to(where)
    similarity = read_similarity(
        similarity_folder, teacher.describe()["sha256"], teacher.num_classes
    )
    recipe = p.method.images.recipe(MethodContext(teacher, similarity, p.seed))
    seen = p.model_dump(mode="json") | {"precision": precision}
    inputs = [digest(teacher_folder), digest(similarity_folder)]
    untracked = distributed.from_first(p.method.images.untracked)
    if untracked is not None:
        inputs.append(untracked.fingerprint)
        if distributed.rank() == 0:
            keys = "data.fingerprint and method.images.fingerprint"
            print(untracked.notice(keys), file=sys.stderr)
    scratch = unfinished("synthesize", p.method.name, seen, *inputs)
    source = recipe.source(teacher, p.synthesis)
    if source.sequential and distributed.world_size() > 1 and distributed.rank() == 0:
        print(
            "synthesize: these shards build on each other, so that rank 0 makes them all",
            file=sys.stderr,
        )
    if p.precision == "auto" and distributed.rank() == 0:
        print(f"synthesize: precision: auto is {precision} on {where}", file=sys.stderr)
    with compute_precision(precision, where), suggest_other_methods():
        return synthesize_set(
            source,
            p.synthesis.num_images,
            p.synthesis.batch_size,
            p.seed,
            folder,
            scratch,
            storage=p.synthesis.storage,
            precision=precision,
        )


def run(p: SynthesizeParams) -> None:
    """Write artifacts/synthetic, and print how many images the teacher recognizes."""
    images = make(p, TEACHER, SIMILARITY, SYNTHETIC)
    if distributed.rank() == 0:
        print(gate_message(images), file=sys.stderr)


if __name__ == "__main__":
    main(run, SynthesizeParams, divisible=True)
