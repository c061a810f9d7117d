"""Early stopping: what is held back, which epoch is kept, and that nothing else changes."""

from collections import Counter

import pandas as pd
import pytest
import torch
from finetuning import LONG, RECIPE, SCHEDULE, SOON, changed, context, finetune, state
from interrupts import counted_steps, killed_after
from ranks import run_ranks

from dynadfq.methods import dynadfq as method
from dynadfq.methods import gdfq
from dynadfq.runtime import distributed
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.training.config import EarlyStoppingConfig, SelectorTrainingConfig
from dynadfq.training.early_stopping import (
    AGREEMENT,
    COST,
    EarlyStopping,
    Subset,
    best_epoch,
    choose,
    hold_back,
)

PLAIN = method.Student(mixup_share=0.0).recipe()


def rows(*agreements, costs=()):
    costs = costs or [1.0] * len(agreements)
    return [{AGREEMENT: a, COST: c} for a, c in zip(agreements, costs, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_classes_give_equally_many_images_and_the_large_ones_first(seed):
    classes = [0] * 5 + [1] * 4 + [2] * 4 + [3]
    rng = torch.Generator().manual_seed(seed)
    for count in range(len(classes) + 1):
        chosen = choose(classes, count, rng)
        assert chosen == sorted(set(chosen)) and len(chosen) == count
        given = Counter(classes[index] for index in chosen)
        if count <= 3:
            assert 3 not in given
        for which, size in Counter(classes).items():
            others = max((given[other] for other in range(4) if other != which), default=0)
            assert given[which] in (size, others, others - 1, others + 1)


def test_both_parts_are_the_whole_set_image_by_image(synthetic):
    learned, held_back = hold_back(synthetic, 7, 0)
    assert (len(learned), len(held_back)) == (17, 7)
    both = torch.cat([learned.indices, held_back.indices])
    assert both.sort().values.tolist() == list(range(24))
    for part in (learned, held_back):
        whole = synthetic.take(part.indices)
        shown = [torch.cat(column) for column in zip(*part.batches(3), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(whole, shown, strict=True))
    again, other = hold_back(synthetic, 7, 0)[1], hold_back(synthetic, 7, 1)[1]
    assert torch.equal(again.indices, held_back.indices)
    assert not torch.equal(other.indices, held_back.indices)
    assert hold_back(synthetic, 0, 0) == (synthetic, None)


def test_the_choice_reads_labels_alone(synthetic, monkeypatch):
    _, part = hold_back(hold_back(synthetic, 7, 0)[0], 5, 1)
    taken = part.take(torch.arange(5)).soft_labels
    monkeypatch.setattr(SyntheticSet, "take", None)
    _, again = hold_back(hold_back(synthetic, 7, 0)[0], 5, 1)
    assert torch.equal(again.indices, part.indices)
    assert torch.equal(again.labels(torch.arange(5)), taken)


def test_some_images_must_be_left(synthetic):
    with pytest.raises(
        InvalidArgument, match=r"early_stopping\.images: 24 of 24 images leave none"
    ):
        hold_back(synthetic, 24, 0)


@pytest.mark.parametrize(
    ("agreements", "costs", "best"),
    [
        ((50.0,), (), 0),
        ((50.0, 60.0, 60.0, 55.0), (), 2),  # the last of equals
        ((90.0, 60.0, 70.0), (2.1, 2.0, 1.9), 2),  # above the limit of 2.0
        ((90.0, 95.0), (3.0, 4.0), 1),  # all above it
    ],
)
def test_the_last_epoch_of_highest_agreement_within_the_cost_is_best(agreements, costs, best):
    assert best_epoch(rows(*agreements, costs=costs), 2.0) == best


def test_patience_counts_the_epochs_since_the_best(make_student, teacher, synthetic):
    schedule = changed(SCHEDULE, early_stopping=SOON)
    stopping = EarlyStopping(
        context(make_student(4), teacher, synthetic, schedule),
        Subset(synthetic, torch.arange(8)),
        0,
    )
    agreements = [50.0, 40.0, 60.0, 59.0, 60.0, 50.0, 59.0, 70.0]
    over = [stopping.is_over(rows(*agreements[:n])) for n in range(len(agreements) + 1)]
    assert over == [*[False] * 7, True, False]


@pytest.mark.parametrize("widths", [(3, 4, 5), (4,)], ids=["dynamic", "fixed"])
@pytest.mark.parametrize(
    ("first", "costs"),
    [
        (40.0, (1.0, 1.0, 1.0, 1.0)),
        (90.0, (1.02, 1.0, 1.0, 1.0)),  # beyond 1 % of the target
        (40.0, (1.0, 1.009, 1.0, 1.0)),  # within it
        (40.0, (1.02, 1.02, 1.02, 1.02)),  # no epoch is
    ],
)
def test_what_is_kept_is_a_training_that_ends_at_the_best_epoch(
    make_student, teacher, synthetic, rising, widths, first, costs
):
    student = make_student(*widths)
    target = student.cost_range()["target"]
    rising(first, 60.0, 50.0, 59.0, costs=[target * cost for cost in costs])
    schedule = changed(LONG, early_stopping=SOON)
    history = finetune(student, teacher, synthetic, PLAIN, schedule)
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["kept"].tolist() == [False, True, False, False]
    learned, _ = hold_back(synthetic, 8, 0)
    ended = make_student(*widths)
    off = changed(LONG, epochs=2, early_stopping=EarlyStoppingConfig())
    shorter = finetune(ended, teacher, learned, PLAIN, off)
    assert state(student) == state(ended) and not student.training
    pd.testing.assert_frame_equal(history[shorter.columns].head(2), shorter, check_exact=True)


def test_measuring_changes_nothing(make_student, teacher, synthetic, rising, monkeypatch):
    learned, _ = hold_back(synthetic, 8, 0)
    plain, watched = make_student(), make_student()
    off = changed(LONG, early_stopping=EarlyStoppingConfig())
    finetune(plain, teacher, learned, RECIPE, off)
    original = EarlyStopping.measure
    rising(*range(8))
    scripted = EarlyStopping.measure

    def both(self):
        original(self)
        return scripted(self)

    monkeypatch.setattr(EarlyStopping, "measure", both)
    finetune(watched, teacher, synthetic, RECIPE, LONG)
    assert state(plain) == state(watched)


def test_agreement_is_that_of_the_student_in_exact_form(make_student, teacher, synthetic):
    student = make_student()
    schedule = changed(LONG, epochs=1)
    history = finetune(student, teacher, synthetic, RECIPE, schedule)
    images = hold_back(synthetic, 8, 0)[1].take(torch.arange(8)).images
    with torch.no_grad():
        logits, bits = student.run(images)
        same = logits.argmax(dim=1) == teacher(images).argmax(dim=1)
    assert history[AGREEMENT].tolist() == [100 * float(same.double().mean())]
    assert history[COST].tolist() == pytest.approx([float(student.bit_flops_percent(bits).mean())])


def test_held_back_images_are_in_no_training_batch(make_student, teacher, synthetic):
    schedule = changed(LONG, epochs=2, crop_scale=1.0, horizontal_flip=False)
    seen = []
    hook = teacher.module.register_forward_pre_hook(
        lambda _, inputs: seen.extend(inputs[0].clone())
    )
    with hook:
        finetune(make_student(4), teacher, synthetic, PLAIN, schedule)
    learned, held_back = hold_back(synthetic, 8, 0)
    shown = Counter(image.contiguous().numpy().tobytes() for image in seen)

    def times(part):
        return [shown[image.numpy().tobytes()] for image in part.take(torch.arange(8)).images]

    assert times(held_back) == [1] * 8  # its own predictions, once
    assert all(times(learned))


def test_a_killed_run_resumes_to_the_same_bytes(
    make_student, teacher, synthetic, monkeypatch, tmp_path
):
    schedule = changed(LONG, early_stopping=EarlyStoppingConfig(images=8, patience=3))
    whole = make_student()
    history = finetune(whole, teacher, synthetic, RECIPE, schedule)
    epochs = len(history)
    for number in range(1, epochs):
        scratch = tmp_path / str(number)
        with killed_after(monkeypatch, 2 * number + 1):
            finetune(make_student(), teacher, synthetic, RECIPE, schedule, scratch=scratch)
        resumed = make_student()
        with counted_steps(monkeypatch) as done:
            again = finetune(resumed, teacher, synthetic, RECIPE, schedule, scratch=scratch)
        pd.testing.assert_frame_equal(again, history, check_exact=True)
        assert state(resumed) == state(whole) and len(done) == 2 * (epochs - number)
    finished = make_student()  # killed before its files were written
    finetune(make_student(), teacher, synthetic, RECIPE, schedule, scratch=tmp_path / "whole")
    with counted_steps(monkeypatch) as done:
        finetune(finished, teacher, synthetic, RECIPE, schedule, scratch=tmp_path / "whole")
    assert state(finished) == state(whole) and not done


def test_drawn_widths_are_the_same_in_every_epoch(make_student, teacher, synthetic, monkeypatch):
    used = []
    student = make_student()
    selector = SelectorTrainingConfig(any_width=True)
    original = type(student).run

    def run(self, images, allocation=None):
        if not self.training:
            used.append(allocation.bits)
        return original(self, images, allocation)

    monkeypatch.setattr(type(student), "run", run)
    schedule = changed(LONG, epochs=2)
    finetune(student, teacher, synthetic, RECIPE, schedule, selector)
    first, second = used
    assert torch.equal(first, second) and first.shape == (8, len(student.sites))
    assert first.unique().tolist() == [3.0, 4.0, 5.0]


def test_a_generators_stored_images_are_held_back(make_student, teacher, tmp_path):
    settings = gdfq.Images(generator_batch_size=8, latent_features=10)
    source = settings.generator(teacher).source(teacher, PixelOptimizerConfig(iterations=2))
    images = synthesize_set(source, 24, 8, 0, tmp_path, Scratch(None))
    history = finetune(make_student(), teacher, images, gdfq.Student().recipe(), LONG)
    assert history["kept"].sum() == 1 and history[AGREEMENT].between(0, 100).all()


def test_ranks_keep_the_same_epoch_as_one_process(make_student, teacher, synthetic):
    learned = changed(LONG, epochs=3)

    def work():
        student = make_student()
        history = finetune(student, teacher, synthetic, PLAIN, learned)
        return distributed.rank(), state(student), history

    [(_, _, alone)] = run_ranks(1, work)
    (_, first, told), (_, second, other) = run_ranks(2, work)
    assert first == second
    pd.testing.assert_frame_equal(told, other, check_exact=True)
    assert told["kept"].tolist() == alone["kept"].tolist()
    assert told[AGREEMENT].tolist() == alone[AGREEMENT].tolist()
