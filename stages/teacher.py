"""Stage ``teacher``: a float classifier, from a checkpoint, from a zoo, or trained here on the labelled data."""

from __future__ import annotations

from pathlib import Path

from dynadfq import data, device, seeding
from dynadfq.artifacts import TEACHER
from dynadfq.checkpoint import Scratch
from dynadfq.models.zoo import build
from dynadfq.params import StageParams
from dynadfq.teacher import Teacher, accuracy, load_teacher
from dynadfq.training.teacher import TeacherRecipe, train_teacher
from stages.runtime import begin, main, root

EVALUATION_BATCH = 250  # images


def make(p: StageParams, folder: Path) -> None:
    """Import or train the teacher of an experiment, and save it to ``folder``."""
    card = data.CARDS[p.data.name]
    side = p.data.image_size or card.size
    shape = (card.channels, side, side)
    if p.teacher.checkpoint or p.teacher.pretrained:
        weights = root(p.teacher.checkpoint) if p.teacher.checkpoint else None
        known = (card.mean, card.std, card.class_names)
        load_teacher(p.teacher.architecture, weights, True, len(card.class_names), shape, *known).save(folder)
        return
    where, files = device.resolve(p.device), root(p.data.root)
    with seeding.global_stream(p.seed, "teacher", "weights"):
        module = build(p.teacher.architecture, card.channels, len(card.class_names))
    recipe = TeacherRecipe(**p.teacher.model_dump(exclude={"architecture", "checkpoint", "pretrained"}))
    scratch = Scratch.of_stage("teacher", p.as_dict())
    train_teacher(module, data.load(card.name, files, train=True, image_size=side), recipe, p.seed, where, scratch)
    source = f"trained on {card.name} for {recipe.epochs} epochs"
    teacher = Teacher(
        module, shape, len(card.class_names), card.mean, card.std, card.class_names, p.teacher.architecture, source
    )
    teacher.float_top1 = accuracy(
        teacher.to(where), data.load(card.name, files, image_size=side).batches(EVALUATION_BATCH)
    )
    teacher.save(folder)
    scratch.delete()


def run() -> None:
    """Write artifacts/teacher."""
    make(begin("teacher"), TEACHER)


if __name__ == "__main__":
    main(run)
