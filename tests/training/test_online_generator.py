"""Batches of an online generator."""

import pytest
import torch
from finetuning import SCHEDULE, context, finetune, state

from dynadfq.methods import adadfq, gdfq
from dynadfq.runtime.described_file import pending
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.training.online_generator import OnlineGeneratorBatches
from dynadfq.training.parts import TrainingContext

SIZES = {"generator_batch_size": 8, "latent_features": 10}
IMAGES = {"gdfq": gdfq.Images(**SIZES), "adadfq": adadfq.Images(**SIZES)}
RECIPES = {"gdfq": gdfq.Student().recipe(), "adadfq": adadfq.Student().recipe()}
STORED = {
    "gdfq": gdfq.Student(online_generator=False),
    "adadfq": adadfq.Student(online_generator=False),
}
TERMS = {"gdfq": {"class"}, "adadfq": {"margin", "disagreement", "agreement"}}


@pytest.fixture
def generated(teacher, tmp_path):
    """Makes the images of a method's generator."""

    def make(name):
        source = IMAGES[name].generator(teacher).source(teacher, PixelOptimizerConfig(iterations=2))
        return synthesize_set(source, 24, 8, 0, tmp_path / name, Scratch(None))

    return make


@pytest.fixture
def stream_of(teacher, generated):
    """Builds the batches of a method's recipe."""

    def build(name, student):
        return RECIPES[name].batches(context(student, teacher, generated(name)))

    return build


@pytest.mark.parametrize("name", RECIPES)
def test_the_generator_learns_and_leaves_both_networks_alone(
    make_student, teacher, stream_of, name
):
    student = make_student()
    stream = stream_of(name, student)
    assert isinstance(stream, OnlineGeneratorBatches)
    before = state(student)
    teacher_before = teacher.serialized()
    generator_before = [p.clone() for p in stream.training.network.parameters()]
    student.train()
    batches = list(stream.epoch(0, torch.Generator().manual_seed(0)))
    for old, new in zip(generator_before, stream.training.network.parameters(), strict=True):
        assert not torch.equal(old, new)
    assert state(student) == before
    assert teacher.serialized() == teacher_before
    assert all(parameter.grad is None for parameter in student.parameters())
    assert not any(module._forward_pre_hooks for module in teacher.module.modules())
    for batch in batches:
        assert batch.images.shape == (8, 3, 8, 8)
        assert not any(tensor.requires_grad for tensor in batch[:3])
        assert torch.equal(batch.teacher_logits, teacher(batch.images))
    assert not torch.isclose(batches[0].images, batches[1].images).all()


def test_the_first_batch_is_the_stored_generators(make_student, stream_of):
    stream = stream_of("gdfq", make_student(4))
    stored = stream.training.draw(8, generator(0, "synthesis", 1))
    first = next(stream.epoch(0, generator(0, "synthesis", 1)))
    assert torch.equal(first.images, stored.images)
    assert torch.equal(first.soft_labels, stored.soft_labels)


@pytest.mark.parametrize(("name", "calls"), [("gdfq", 0), ("adadfq", 2)])
def test_only_a_generator_that_plays_against_the_student_runs_it(
    make_student, stream_of, name, calls
):
    student = make_student(4)
    runs = []
    student.network.register_forward_pre_hook(lambda *_: runs.append(1))
    batches = list(stream_of(name, student).epoch(0, torch.Generator()))
    assert len(runs) == calls
    names = {f"generator_{term}" for term in (*TERMS[name], "bn_statistics", "total")}
    assert all(set(batch.measured) == names for batch in batches)


def test_a_generator_plays_against_the_student_at_the_drawn_widths(
    make_student, teacher, generated
):
    student = make_student()
    given = []
    student.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]))
    drawn = TrainingContext(student, teacher, generated("adadfq"), SCHEDULE, any_width=True)
    batches = list(RECIPES["adadfq"].batches(drawn).epoch(0, torch.Generator()))
    assert given == [batch.allocation for batch in batches] and None not in given


def test_its_figures_are_in_the_history(make_student, teacher, generated):
    history = finetune(make_student(), teacher, generated("gdfq"), RECIPES["gdfq"])
    assert {"generator_total", "generator_bn_statistics", "loss"} <= set(history.columns)


def test_the_generators_rate_decays_with_the_students(make_student, stream_of):
    stream = stream_of("gdfq", make_student(4))
    rates = []
    for epoch in range(SCHEDULE.epochs):
        rates.append(stream.training.adam.param_groups[0]["lr"])
        list(stream.epoch(epoch, torch.Generator().manual_seed(epoch)))
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_the_generators_hyperparameters_are_the_stored_ones(make_student, teacher, stream_of):
    recipe = stream_of("adadfq", make_student(4)).training.recipe
    assert adadfq.Images(**recipe.settings) == IMAGES["adadfq"]
    weights = {term.name: term.weight for term in recipe.objective.terms}
    assert weights == pytest.approx(
        {"agreement": 0.1, "bn_statistics": 1.0, "margin": 1.0, "disagreement": 0.2}
    )
    assert recipe.against_student
    assert not IMAGES["adadfq"].generator(teacher).against_student


def test_files_that_wait_for_their_names_are_read(make_student, teacher, generated):
    images = generated("gdfq")
    for name, checksum in images.manifest["files"].items():
        path = images.folder / name
        path.rename(pending(path, checksum))  # as after a kill once the manifest is replaced
    images.check()
    finetune(make_student(), teacher, images, RECIPES["gdfq"])


@pytest.mark.parametrize("name", STORED)
def test_without_an_online_generator_the_stored_images_are_used(
    make_student, teacher, generated, synthetic, name
):
    recipe = STORED[name].recipe()
    for images in (generated("gdfq"), synthetic):
        student = make_student(4)
        before = state(student)
        history = finetune(student, teacher, images, recipe)
        assert not [column for column in history if column.startswith("generator_")]
        assert state(student) != before


@pytest.mark.parametrize(
    ("name", "source", "origin"),
    [("gdfq", None, "without a generator"), ("adadfq", "gdfq", "by the generator of gdfq")],
)
def test_a_set_without_the_methods_generator_is_refused(
    make_student, teacher, synthetic, generated, name, source, origin
):
    images = generated(source) if source else synthetic
    remedy = "set online_generator to false to train on the stored images"
    with pytest.raises(ValueError, match=rf"online_generator: .* made {origin}.*{remedy}"):
        RECIPES[name].batches(context(make_student(4), teacher, images))
