"""Stage ``teacher``: a float classifier from a checkpoint, a zoo, or trained on labelled data."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from dynadfq.data.config import DataConfig
from dynadfq.data.loading import data_metadata
from dynadfq.params import View
from dynadfq.runtime import device, seeding
from dynadfq.teacher.config import TeacherConfig
from dynadfq.teacher.loading import import_teacher
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.training import accuracy, train_teacher
from dynadfq.teacher.trial import try_network
from dynadfq.zoo.architectures import build
from dynadfq.zoo.metadata import Metadata
from dynadfq.zoo.teacher_metadata import TeacherMetadata, teacher_metadata
from stages.artifacts import TEACHER
from stages.labelled import data_fingerprint, labelled_set
from stages.runtime import main, put_for_dvc, root, unfinished

FOLLOWED = Path("checkpoints")  # a dependency in dvc.yaml
NOT_FOLLOWED = (
    "DVC does not see when {} changes: put it into checkpoints/, or run `dvc repro -f teacher` "
    "after a change"
)
GIVEN = {field.name for field in fields(Metadata)} & set(TeacherConfig.model_fields)


class TeacherParams(View):
    """What this stage declares in dvc.yaml."""

    seed: int
    device: str
    data: DataConfig
    teacher: TeacherConfig


def make(p: TeacherParams, folder: Path) -> None:
    """Import or train a teacher, print the origin of its metadata, and save it to ``folder``."""
    imported = bool(p.teacher.checkpoint or p.teacher.pretrained)
    given = Metadata("params.yaml", **p.teacher.model_dump(include=GIVEN))
    data_set = data_metadata(p.data.name, None if imported else root(p.data.root))
    facts = teacher_metadata(
        p.teacher.architecture, given, data_set, p.teacher.pretrained, p.data.image_size
    )
    print(*facts.lines(), sep="\n")
    if not imported:
        return train(p, facts, folder)
    checkpoint = p.teacher.checkpoint and weights_file(p.teacher.checkpoint)
    import_teacher(p.teacher.architecture, facts, checkpoint).save(folder)


def weights_file(path: str) -> Path:
    """Return a checkpoint, in a place where DVC sees its content if that is possible."""
    if FOLLOWED in Path(path).parents:
        return put_for_dvc(path)
    print(NOT_FOLLOWED.format(path), file=sys.stderr)
    return root(path)


def train(p: TeacherParams, facts: TeacherMetadata, folder: Path) -> None:
    """Train a newly initialized teacher, measure it, and save it to ``folder``."""
    with seeding.global_stream(p.seed, "teacher", "weights"):
        module = build(p.teacher.architecture, facts.input_shape[0], facts.num_classes)
    scratch = unfinished("teacher", None, p.model_dump(mode="json"), data_fingerprint(p.data))
    try_network(module.eval(), facts.input_shape, facts.num_classes)
    images, test = (
        labelled_set(p.data, part, facts.preprocessing, facts.class_names) for part in (True, False)
    )
    with scratch.claimed():
        train_teacher(module, images, p.teacher, p.seed, device.resolve(p.device), scratch)
        source = f"trained on {p.data.name} for {p.teacher.epochs} epochs"
        teacher = Teacher(
            module, architecture=p.teacher.architecture, source=source, **facts.arguments()
        )
        teacher.float_top1 = accuracy(teacher, test.batches(p.teacher.batch_size))
        teacher.save(folder)
        scratch.delete()


def run(p: TeacherParams) -> None:
    """Write artifacts/teacher."""
    make(p, TEACHER)


if __name__ == "__main__":
    main(run, TeacherParams)
