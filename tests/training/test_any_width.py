"""One student for every width: drawn allocations, and the selector that learns afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from finetuning import SCHEDULE, changed, finetune, state
from interrupts import killed_after
from torch import Tensor

from dynadfq import api
from dynadfq.methods import dynadfq as method
from dynadfq.methods import hast
from dynadfq.quant.config import QuantizationConfig
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.runtime.distributed import BatchPart
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.any_width import draw_widths
from dynadfq.training.batches import StoredBatches
from dynadfq.training.config import SelectorTrainingConfig
from dynadfq.training.parts import TrainingContext
from dynadfq.training.train import train_student

Build = Callable[..., Student]
ANY = SelectorTrainingConfig(any_width=True)
RECIPE = method.Student().recipe()


@pytest.mark.parametrize("widths", [(3, 4, 5), (2, 8)])
def test_each_width_has_its_turn_and_the_last_is_for_sites(widths: tuple[int, ...]) -> None:
    turns = len(widths) + 1
    bits = draw_widths(12 * turns, 30, widths, torch.Generator().manual_seed(0))
    assert bits.shape == (12 * turns, 30)
    assert set(bits.unique().tolist()) == set(widths)
    same = (bits == bits[:, :1]).all(dim=1)
    for width in widths:
        assert int((same & (bits[:, 0] == width)).sum()) == 12
    for start in range(0, 12 * turns, turns):  # the sandwich is in any M + 1 images
        assert {widths[0], widths[-1]} <= set(bits[start : start + turns][:, 0].tolist())
    mixed = bits[~same]
    shares = torch.stack([(mixed == width).float().mean() for width in widths])
    assert (shares - 1 / len(widths)).abs().max() < 0.1


def test_a_batch_of_one_image_is_not_always_at_the_same_width() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw_widths(1, 4, (3, 4, 5), rng) for _ in range(40)])
    assert {(float(width),) * 4 for width in (3, 4, 5)} < {tuple(row) for row in drawn.tolist()}


def batches_of(context: TrainingContext) -> list[Any]:
    rng = torch.Generator().manual_seed(0)
    return list(StoredBatches(context).epoch(0, rng))


def test_ranks_share_the_draws_of_one_process(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = TrainingContext(make_student(), teacher, synthetic, SCHEDULE, any_width=True)
    whole = batches_of(context)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "part", lambda rank=rank: BatchPart(rank, 2))
        parts.append(batches_of(context))
    for batch, first, second in zip(whole, *parts, strict=True):
        assert len(first.images) == len(second.images) == 4
        both = torch.cat([first.allocation.bits, second.allocation.bits])
        assert torch.equal(both, batch.allocation.bits)


@pytest.mark.parametrize("recipe", [RECIPE, hast.Student().recipe()], ids=["mixup", "perturbed"])
def test_widths_are_drawn_and_the_selector_does_not_learn(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet, recipe: Any
) -> None:
    student = make_student(ranges="per_width")
    given = []
    student.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    before = state(student)
    schedule = changed(SCHEDULE, range_learning_rate=0.1)
    history = finetune(student, teacher, synthetic, recipe, schedule, ANY)
    assert given and None not in given  # neither mixup nor perturbation asks the selector
    after = state(student)
    unchanged = {name for name in before if before[name] == after[name]}
    assert {name for name in before if name.startswith("selector.")} <= unchanged
    assert {"conv1.weight", "fc.weight", "sites.0.high", "sites.3.high"} <= set(after) - unchanged
    moved = torch.frombuffer(bytearray(after["sites.0.high"]), dtype=torch.float32)
    start = torch.frombuffer(bytearray(before["sites.0.high"]), dtype=torch.float32)
    assert (moved != start).all()  # every width's range learns
    assert "budget" not in history and (history["bit_flops_percent_std"] > 0).all()
    assert history["mean_bits"].between(3.5, 4.5).all()


def test_the_seed_decides_and_a_killed_run_resumes(
    make_student: Build,
    teacher: Teacher,
    synthetic: SyntheticSet,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    states = []
    for seed in (0, 0, 1):
        student = make_student()
        finetune(student, teacher, synthetic, RECIPE, SCHEDULE, ANY, seed)
        states.append(state(student))
    assert states[0] == states[1] != states[2]
    with killed_after(monkeypatch, 5):
        finetune(make_student(), teacher, synthetic, RECIPE, SCHEDULE, ANY, scratch=tmp_path / "s")
    resumed = make_student()
    finetune(resumed, teacher, synthetic, RECIPE, SCHEDULE, ANY, scratch=tmp_path / "s")
    assert state(resumed) == states[0]


def trained(student: Student, teacher: Teacher, images: SyntheticSet, warm_up: int) -> Student:
    settings = changed(ANY, warm_up_images=warm_up, warm_up_steps=5)
    quantization, scratch = QuantizationConfig(), Scratch(None)
    train_student(
        student, teacher, images, RECIPE, quantization, SCHEDULE, settings, 0, "float32", scratch,
        "dynadfq", True,
    )  # fmt: skip
    return student


def test_the_selector_learns_last_and_alone(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet
) -> None:
    without, with_warm_up = (
        state(trained(make_student(varied=False), teacher, synthetic, images)) for images in (0, 24)
    )
    changed_names = {name for name in without if without[name] != with_warm_up[name]}
    assert changed_names and all(name.startswith("selector.") for name in changed_names)


def test_without_a_warm_up_it_runs_at_the_target(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet, images: Tensor
) -> None:
    student = trained(make_student(varied=False), teacher, synthetic, 0)
    bits = student.run(images)[1]
    assert (bits[:, 1:] == 4).all() and (bits[:, 0] == 5).all()


def test_any_width_runs_from_one_student(
    make_student: Build, images: Tensor, teacher: Teacher
) -> None:
    student = make_student(ranges="per_width")
    batches = [(images, None)]
    for bits in (3, 4, 5, [3, 5, 4, 3]):
        found = api.evaluate(student, batches, bits=bits)
        logits, used = student.run(images, student.allocation(bits))
        assert (found.predictions == logits.argmax(dim=1)).double().mean() > 0.97
        assert torch.equal(found.bits.float(), used)
        assert found.bit_flops_percent_std < 1e-12
    for one in (np.int64(4), torch.tensor(4), torch.tensor([4, 4, 4, 4])):
        assert torch.equal(student.allocation(one).bits, student.uniform(4).bits)
    costs = [api.evaluate(student, batches, bits=bits).bit_flops_percent for bits in (3, 4, 5)]
    assert costs == sorted(set(costs))
    for wrong, message in (
        (9, r"bits: a width must be a whole number in 2 … 8; got 9"),
        (4.0, r"bits: a width must be a whole number in 2 … 8; got 4\.0"),
        (True, r"bits: a width must be a whole number in 2 … 8; got true"),
        ("3", r"bits: 1 widths for 4 sites"),
        ([3, 4], r"bits: 2 widths for 4 sites"),
        ([3, 4, 5, 1], r"bits: a width must be a whole number in 2 … 8; got 1"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            api.evaluate(student, batches, bits=wrong)
    with pytest.raises(InvalidArgument, match="bits: 4 given, and a teacher has no widths"):
        api.evaluate(teacher, batches, bits=4)


def test_a_student_of_one_width_cannot_learn_others(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    with pytest.raises(InvalidArgument, match=r"per_width_ranges: the student has one width, 4"):
        api.quantize(teacher, activation_bits=4, per_width_ranges=True)
    student = api.quantize(teacher, activation_bits=4)
    with pytest.raises(InvalidArgument, match=r"any_width: the student has one width, 4 bits"):
        api.finetune(student, teacher, synthetic, any_width=True)
