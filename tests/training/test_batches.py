"""Stored images with the teacher's logits, computed once where an image stays as it is."""

import pandas as pd
import pytest
import torch
from finetuning import SCHEDULE, changed, context, finetune, state

from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.training.batches import StoredBatches

PLAIN = changed(
    SCHEDULE, epochs=3, steps_per_epoch=5, batch_size=7, crop_scale=1.0, horizontal_flip=False
)


def all_batches(teacher, images, schedule, filter=None):
    """Every batch of every epoch, and how many images the teacher saw."""
    seen = []
    stream = StoredBatches(context(None, teacher, images, schedule), filter)
    rng = torch.Generator().manual_seed(0)
    with teacher.module.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))):
        batches = [batch for n in range(schedule.epochs) for batch in stream.epoch(n, rng)]
    return batches, sum(seen)


def assert_logits_are_the_teachers(teacher, batches):
    with torch.no_grad():
        for batch in batches:
            assert torch.equal(batch.teacher_logits, teacher(batch.images))


@pytest.mark.parametrize("size", [1, 5, 8, 24, 30])
@pytest.mark.parametrize("filter", [None, lambda x: 0.5 * x], ids=["plain", "filtered"])
def test_stored_logits_are_those_of_the_images_shown(teacher, synthetic, size, filter):
    schedule = changed(PLAIN, batch_size=size, steps_per_epoch=10)
    batches, seen = all_batches(teacher, synthetic, schedule, filter)
    assert len(batches) == 30
    assert seen == -(-24 // size) * size  # each image once, the last batch filled up
    assert_logits_are_the_teachers(teacher, batches)


@pytest.mark.parametrize("change", [{"crop_scale": 0.5}, {"horizontal_flip": True}], ids=str)
def test_augmented_images_have_logits_of_their_own(teacher, synthetic, change):
    batches, seen = all_batches(teacher, synthetic, changed(PLAIN, **change))
    assert seen == 3 * 5 * 7
    assert_logits_are_the_teachers(teacher, batches)
    stored = {image.numpy().tobytes() for image in synthetic.take(torch.arange(24)).images}
    shown = {image.contiguous().numpy().tobytes() for batch in batches for image in batch.images}
    assert not shown <= stored


def test_a_run_that_sees_no_image_twice_stores_no_logits(teacher, synthetic):
    short = changed(PLAIN, epochs=1, steps_per_epoch=2)
    assert all_batches(teacher, synthetic, short)[1] == 14


def test_stored_logits_do_not_change_the_result(make_student, teacher, synthetic, monkeypatch):
    recipe = DynaDFQ().student.recipe()
    students = [make_student(), make_student()]
    stored = finetune(students[0], teacher, synthetic, recipe, PLAIN)
    monkeypatch.setattr(StoredBatches, "_logits_can_be_stored", False)
    computed = finetune(students[1], teacher, synthetic, recipe, PLAIN)
    pd.testing.assert_frame_equal(computed, stored, check_exact=True)
    assert state(students[0]) == state(students[1])
