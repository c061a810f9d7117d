from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from dynadfq.methods.adadfq import AdaDFQ
from dynadfq.methods.adadfq import Images as AdaDFQImages
from dynadfq.methods.adadfq import Student as AdaDFQStudent
from dynadfq.methods.gdfq import GDFQ
from dynadfq.methods.gdfq import Images as GDFQImages
from dynadfq.methods.gdfq import Student as GDFQStudent
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.generator import GeneratorRecipe
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.finetune import finetune_student
from dynadfq.training.online_generator import OnlineGeneratorBatches, batch_stream
from dynadfq.training.recipe import OnlineGenerator, StudentRecipe

SCHEDULE = FinetuneConfig(
    epochs=4, steps_per_epoch=2, batch_size=8, learning_rate=1e-3, decay_every=2
)
IMAGES = {
    "gdfq": GDFQImages(generator_batch_size=8, latent_features=10),
    "adadfq": AdaDFQImages(generator_batch_size=8, latent_features=10),
}
RECIPES = {"gdfq": GDFQ().student.recipe(), "adadfq": AdaDFQ().student.recipe()}
METHODS = sorted(RECIPES)

Finetune = Callable[..., pd.DataFrame]


@pytest.fixture
def generated(teacher: Teacher, tmp_path: Path) -> Callable[[str], SyntheticSet]:
    def make(name: str) -> SyntheticSet:
        folder = tmp_path / f"images-{name}"
        if folder.exists():
            return SyntheticSet(folder)
        source = IMAGES[name].generator(teacher).source(teacher, PixelOptimizerConfig(iterations=2))
        return synthesize_set(source, 24, 8, 0, folder, Scratch(None))

    return make


@pytest.fixture
def finetune(teacher: Teacher, generated: Callable[[str], SyntheticSet]) -> Finetune:
    def run(
        student: Student,
        name: str = "gdfq",
        recipe: StudentRecipe | None = None,
        schedule: FinetuneConfig = SCHEDULE,
        seed: int = 0,
        scratch: Path | None = None,
    ) -> pd.DataFrame:
        recipe, budget = (
            recipe or RECIPES[name],
            SelectorTrainingConfig(budget="constraint", bit_weight=3.0),
        )
        return finetune_student(
            student, teacher, generated(name), recipe, schedule, budget, seed, Scratch(scratch)
        )

    return run


def state(student: Student) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in student.network.state_dict().items()}


def batches_of(
    teacher: Teacher,
    student: Student,
    images: SyntheticSet,
    recipe: StudentRecipe,
    schedule: FinetuneConfig = SCHEDULE,
) -> OnlineGeneratorBatches:
    found = batch_stream(student, teacher, images, recipe, schedule)
    assert isinstance(found, OnlineGeneratorBatches)
    return found


@pytest.mark.parametrize(
    ("name", "widths"), [("gdfq", (3, 4, 5)), ("adadfq", (3, 4, 5)), ("adadfq", (4,))]
)
@pytest.mark.parametrize("after", [3, 5])
def test_a_killed_run_goes_on_to_the_same_bytes(
    make_student: Callable[..., Student],
    finetune: Finetune,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    widths: tuple[int, ...],
    after: int,
) -> None:
    whole, scratch = make_student(*widths), tmp_path / "scratch"
    history = finetune(whole, name)
    steps, original = iter(range(100)), Progress.step

    def step(self: Progress, **losses: float) -> None:
        if next(steps) == after:
            raise KeyboardInterrupt
        original(self, **losses)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", step)
        finetune(make_student(*widths), name, scratch=scratch)
    resumed = make_student(*widths)
    pd.testing.assert_frame_equal(
        finetune(resumed, name, scratch=scratch), history, check_exact=True
    )
    assert state(resumed) == state(whole)


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides(
    make_student: Callable[..., Student], finetune: Finetune, name: str
) -> None:
    students = [make_student() for _ in range(3)]
    for student, seed in zip(students, (0, 0, 1), strict=True):
        finetune(student, name, seed=seed)
    assert state(students[0]) == state(students[1]) != state(students[2])


@pytest.mark.parametrize("name", METHODS)
def test_the_generator_learns_and_leaves_both_networks_alone(
    make_student: Callable[..., Student],
    teacher: Teacher,
    generated: Callable[[str], SyntheticSet],
    name: str,
) -> None:
    student = make_student()
    before, taught = state(student), teacher.serialized()
    live = batches_of(teacher, student, generated(name), RECIPES[name])
    generator = [parameter.clone() for parameter in live.training.network.parameters()]
    student.train()
    batches = list(live.epoch(torch.Generator().manual_seed(0)))
    assert all(
        not torch.equal(a, b)
        for a, b in zip(generator, live.training.network.parameters(), strict=True)
    )
    assert state(student) == before and teacher.serialized() == taught
    assert all(parameter.grad is None for parameter in student.parameters())
    assert not any(module._forward_pre_hooks for module in teacher.module.modules())
    for batch in batches:
        assert batch.images.shape == (8, 3, 8, 8)
        assert not any(tensor.requires_grad for tensor in batch[:3])
        assert torch.equal(batch.teacher_logits, teacher(batch.images))
    assert not torch.isclose(batches[0].images, batches[1].images).all()


def test_the_first_batch_is_the_stored_generators(
    make_student: Callable[..., Student], teacher: Teacher, generated: Callable[[str], SyntheticSet]
) -> None:
    from dynadfq.runtime.seeding import generator

    images = generated("gdfq")
    live = batches_of(teacher, make_student(4), images, RECIPES["gdfq"])
    first = next(live.epoch(generator(0, "synthesis", 1)))
    assert torch.equal(first.images.contiguous(), images.take(torch.arange(8, 16)).images)
    assert torch.equal(first.soft_labels, images.take(torch.arange(8, 16)).soft_labels)


def test_statistics_of_the_student_stay_and_its_parts_learn(
    make_student: Callable[..., Student], finetune: Finetune
) -> None:
    for name in METHODS:
        student = make_student()
        before = {key: tensor.clone() for key, tensor in student.network.state_dict().items()}
        history = finetune(
            student, name, schedule=SCHEDULE.model_copy(update={"range_learning_rate": 0.1})
        )
        after = student.network.state_dict()
        still = {key for key in before if torch.equal(before[key], after[key])}
        statistics = {
            k
            for k in before
            if k.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")
        }
        assert statistics <= still
        assert {key for key in still - statistics if not key.endswith(".low")} == set()
        assert {"generator_total", "generator_bn_statistics", "loss"} <= set(history.columns)
        assert torch.isfinite(torch.tensor(history.to_numpy(dtype=float))).all()


def test_only_a_generator_that_plays_against_the_student_asks_it(
    make_student: Callable[..., Student], teacher: Teacher, generated: Callable[[str], SyntheticSet]
) -> None:
    for name, calls in (("gdfq", 0), ("adadfq", 2)):
        student, asked = make_student(4), list[Tensor]()
        student.network.register_forward_pre_hook(
            lambda _, inputs, asked=asked: asked.append(inputs[0])
        )
        measured = [
            x.measured
            for x in batches_of(teacher, student, generated(name), RECIPES[name]).epoch(
                torch.Generator()
            )
        ]
        assert len(asked) == calls
        expected = {"gdfq": {"class"}, "adadfq": {"margin", "disagreement", "agreement"}}[name]
        names = {f"generator_{term}" for term in (*expected, "bn_statistics", "total")}
        assert all(set(values) == names for values in measured)


def test_the_generators_rate_falls_with_the_students(
    make_student: Callable[..., Student], teacher: Teacher, generated: Callable[[str], SyntheticSet]
) -> None:
    live = batches_of(teacher, make_student(4), generated("gdfq"), RECIPES["gdfq"])
    rates = []
    for epoch in range(4):
        rates.append(live.training.adam.param_groups[0]["lr"])
        list(live.epoch(torch.Generator().manual_seed(epoch)))
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_the_generators_hyperparameters_are_the_stored_ones(
    make_student: Callable[..., Student], teacher: Teacher, generated: Callable[[str], SyntheticSet]
) -> None:
    recipe, seen = RECIPES["adadfq"], list[GeneratorRecipe]()
    assert recipe.online_generator is not None
    live = recipe.online_generator

    def watch(settings: object, of: Teacher) -> GeneratorRecipe:
        seen.append(live.recipe(settings, of))  # type: ignore[arg-type]
        return seen[-1]

    batches_of(
        teacher,
        make_student(4),
        generated("adadfq"),
        replace(recipe, online_generator=OnlineGenerator("adadfq", watch)),
    )
    assert AdaDFQImages(**seen[0].settings) == IMAGES["adadfq"]
    weights = {term.name: term.weight for term in seen[0].objective.terms}
    assert weights == pytest.approx(
        {"agreement": 0.1, "bn_statistics": 1.0, "margin": 1.0, "disagreement": 0.2}
    )
    assert seen[0].against_student and not IMAGES["adadfq"].generator(teacher).against_student


def test_the_stored_images_teach_where_live_ones_are_off_or_there_are_none(
    make_student: Callable[..., Student],
    finetune: Finetune,
    teacher: Teacher,
    synthetic: SyntheticSet,
) -> None:
    for recipe in (
        GDFQStudent(online_generator=False).recipe(),
        AdaDFQStudent(online_generator=False).recipe(),
    ):
        assert recipe.online_generator is None
        history = finetune(make_student(4), "gdfq", recipe)
        assert not [name for name in history.columns if name.startswith("generator_")]
        student = make_student(4)
        finetune_student(
            student,
            teacher,
            synthetic,
            recipe,
            SCHEDULE,
            SelectorTrainingConfig(),
            0,
            Scratch(None),
        )
        assert state(student) != state(make_student(4))


def test_a_set_without_the_methods_generator_is_refused_with_the_remedy(
    make_student: Callable[..., Student],
    teacher: Teacher,
    synthetic: SyntheticSet,
    generated: Callable[[str], SyntheticSet],
) -> None:
    student, remedy = make_student(4), "set online_generator to false to train on the stored images"
    with pytest.raises(
        ValueError,
        match=rf"method\.gdfq\.student\.online_generator: .* made without a generator.*{remedy}",
    ):
        batch_stream(student, teacher, synthetic, RECIPES["gdfq"], SCHEDULE)
    with pytest.raises(
        ValueError,
        match=rf"method\.adadfq\.student\.online_generator: .* made by gdfq's .*{remedy}",
    ):
        batch_stream(student, teacher, generated("gdfq"), RECIPES["adadfq"], SCHEDULE)
