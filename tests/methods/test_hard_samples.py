"""HAST and SynQ: hard images, images made harder, labels of easy ones, and calibration centres."""

import math

import finetuning
import pytest
import torch
from finetuning import changed, finetune, state
from interrupts import counted_steps, killed_after

from dynadfq.losses import objective
from dynadfq.losses.bn_statistics import batch_statistics, bn_statistics_of_batch, pooled_statistics
from dynadfq.losses.hard_samples import easy_label_term, hard_sample_loss
from dynadfq.losses.objective import StudentStep, SynthesisStep, Term, soft_cross_entropy
from dynadfq.methods import hast, synq
from dynadfq.methods.base import MethodContext
from dynadfq.runtime.progress import NonFiniteLoss
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis import calibration_centres
from dynadfq.synthesis.calibration_centres import CentredSource, Centres, centre_objective
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.pixels import PixelSource
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.similarity import class_similarity
from dynadfq.training.batches import StoredBatches

SCHEDULE = changed(finetuning.SCHEDULE, epochs=3, crop_scale=1.0, horizontal_flip=False)
MODULES = (hast, synq)
LABELS = torch.eye(3)[[0, 1]]
LOGITS = torch.tensor([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25]]).log()  # p of the labels: 0.8 and 0.25


def composed(images, teacher):
    return images.recipe(MethodContext(teacher, class_similarity(teacher), 0))


def test_hard_sample_loss_by_hand():
    expected = (0.2**2 * -math.log(0.8) + 0.75**2 * -math.log(0.25)) / 2
    assert float(hard_sample_loss(LOGITS, LABELS, 2.0)) == pytest.approx(expected)


def test_power_zero_is_cross_entropy():
    torch.testing.assert_close(
        hard_sample_loss(LOGITS, LABELS, 0.0), soft_cross_entropy(LOGITS, LABELS).mean()
    )


def test_the_difficulty_is_not_a_constant():
    logits = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(hard_sample_loss(logits, LABELS, 2.0), logits)
    p = torch.tensor([0.8, 0.25])
    along = (2 * (1 - p) * p * p.log() - (1 - p) ** 2) * (1 - p) / 2  # by p's logit
    torch.testing.assert_close(slope[[0, 1], [0, 1]], along)


def test_certain_images_have_a_finite_slope():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(hard_sample_loss(logits, LABELS[:1], 0.5), logits)
    assert torch.isfinite(slope).all()


def test_hast_adds_the_hard_sample_loss_to_the_batch_statistics(teacher, images):
    labels = torch.eye(6)[torch.arange(16) % 6]
    with teacher.recording() as recording:
        logits = teacher(images[:16])
        step = SynthesisStep(images[:16], labels, logits, recording)
        total, _ = composed(hast.Images(class_weight=3.0, difficulty_power=1.0), teacher).objective(
            step
        )
        expected = bn_statistics_of_batch(recording) + 3 * hard_sample_loss(logits, labels, 1.0)
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("images", [hast.Images(), synq.Images()], ids=["hast", "synq"])
def test_crops_are_off_until_asked_for(images, teacher):
    assert composed(images, teacher).augment is None
    cropped = composed(images.model_copy(update={"crop_scale": 0.4}), teacher)
    assert cropped.augment is not None


def test_easy_label_loss_by_hand():
    ours = torch.zeros(2, 3)  # cross entropy log 3 each
    step = StudentStep(LABELS, ours, LOGITS, torch.ones(2))
    values = [float(easy_label_term(1.0, hardest).value(step)) for hardest in (0.1, 0.5, 0.75, 1.0)]
    assert values == pytest.approx([0.0, math.log(3) / 2, math.log(3), math.log(3)])


def untouched(student, teacher):
    """Whether no hook or gradient is left on either network."""
    modules = [*student.modules(), *teacher.module.modules()]
    frozen = not any(p.requires_grad or p.grad is not None for p in teacher.module.parameters())
    return frozen and not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules
    )


def images_run(student, teacher, synthetic, recipe):
    """The batches that the student runs on during a fine-tuning."""
    seen = []
    with student.network.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach().clone())
    ):
        finetune(student, teacher, synthetic, recipe, SCHEDULE)
    return seen


@pytest.mark.parametrize("module", MODULES)
def test_harder_images_lie_a_step_along_the_sign_of_the_slope(
    module, make_student, teacher, synthetic
):
    recipe = module.Student(perturbation=0.02).recipe()
    seen = images_run(make_student(4), teacher, synthetic, recipe)
    assert len(seen) == 12
    for images, harder in zip(seen[::2], seen[1::2], strict=True):
        moved = (harder - images).abs()
        assert moved.max() == pytest.approx(0.02, rel=1e-3)
        assert (moved > 0.01).float().mean() > 0.9
        assert not ((moved > 1e-5) & (moved < 0.0199)).any()


def test_harder_images_raise_the_loss(make_student, teacher, synthetic):
    schedule = changed(SCHEDULE, epochs=1, learning_rate=1e-9, range_learning_rate=1e-9)
    settings = hast.Student(perturbation=0.005)
    history = finetune(make_student(8), teacher, synthetic, settings.recipe(), schedule)
    row = history.iloc[0]
    clean, harder = (
        settings.distillation_weight * row[f"distillation{suffix}"]
        + settings.attention_weight * row[f"attention{suffix}"]
        for suffix in ("", "_perturbed")
    )
    assert harder > clean
    assert row["loss"] == pytest.approx(clean + harder)


def test_synqs_terms_on_harder_images(make_student, teacher, synthetic):
    terms = {"distillation", "label", "attention", "activation_map"}
    for on_attention, perturbed in (
        (False, {"distillation", "label"}),
        (True, {"distillation", "label", "attention"}),
    ):
        recipe = synq.Student(perturbed_attention=on_attention).recipe()
        columns = set(finetune(make_student(4), teacher, synthetic, recipe, SCHEDULE).columns)
        assert terms <= columns
        found = {name.removesuffix("_perturbed") for name in columns if "_perturbed" in name}
        assert found == perturbed


def test_synqs_harder_images_do_not_follow_the_activation_maps(make_student, teacher, synthetic):
    first = [
        images_run(make_student(4), teacher, synthetic, synq.Student(map_weight=weight).recipe())[1]
        for weight in (0.0, 1e4)
    ]
    torch.testing.assert_close(*first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("hardest", [0.2, 0.6, 1.0])
def test_synqs_easy_labels_are_chosen_before_images_are_moved(
    hardest, make_student, teacher, synthetic
):
    student = make_student(8)
    (batch, *_) = StoredBatches(finetuning.context(student, teacher, synthetic)).epoch(
        0, torch.Generator().manual_seed(0)
    )
    settings = synq.Student(hardest_label=hardest, perturbation=0.5, map_weight=0.0)
    moved = []
    with student.network.register_forward_pre_hook(lambda _, inputs: moved.append(inputs[0])):
        loss = settings.recipe().loss(finetuning.context(student, teacher, synthetic))
        value = loss(batch)
    p, after = ((batch.soft_labels * teacher(images).softmax(dim=1)).sum(dim=1) for images in moved)
    cross_entropy = soft_cross_entropy(student.run(moved[1])[0], batch.soft_labels)
    expected = (cross_entropy * (1 - p <= hardest)).mean()
    torch.testing.assert_close(value.terms["label_perturbed"], expected)
    if hardest == 0.6:  # the moved images would choose others
        assert ((1 - p <= hardest) != (1 - after <= hardest)).any()


@pytest.mark.parametrize(("scale", "gain"), [(True, 0.14086), (False, 0.96079)])
def test_synqs_cutoff_shrinks_with_the_image_unless_it_is_the_released_codes(scale, gain, teacher):
    """Of 16 · √2 cycles in 32 pixels, with D = 80 · 32 / 224 or 80: exp(-512 / (2 · D²))."""
    places = torch.arange(32)
    board = (-1.0) ** (places + places[:, None]).expand(1, 3, 32, 32)
    batches = synq.Student(scale_cutoff=scale).batches(finetuning.context(None, teacher, [None]))
    torch.testing.assert_close(batches.filter(board), gain * board, rtol=0, atol=5e-5)


def test_synq_filters_what_student_and_teacher_see(make_student, teacher, synthetic):
    raw_batches, filtered_batches = (
        images_run(
            make_student(4), teacher, synthetic, synq.Student(perturbation=0.0, **cutoff).recipe()
        )
        for cutoff in ({"cutoff": 1e9}, {"cutoff": 1.0, "scale_cutoff": False})
    )
    for raw, filtered in zip(raw_batches, filtered_batches, strict=True):
        assert filtered.std() < 0.7 * raw.std()
        torch.testing.assert_close(
            filtered.mean(dim=(2, 3)), raw.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
def test_a_student_like_its_teacher_has_nothing_to_align(
    module, widths, make_student, teacher, synthetic
):
    student = make_student(*widths)
    schedule = SCHEDULE.model_copy(update={"epochs": 1, "steps_per_epoch": 1})
    with student.unquantized():
        history = finetune(student, teacher, synthetic, module.Student().recipe(), schedule)
    for term in {"attention", "activation_map"} & set(history.columns):
        assert history[term].iloc[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("module", MODULES)
def test_terms_of_weight_zero_need_no_feature_maps(module, make_student, teacher, synthetic):
    weights = {"attention_weight": 0.0, "map_weight": 0.0}
    settings = module.Student(
        **{name: weight for name, weight in weights.items() if name in module.Student.model_fields}
    )
    assert settings.features(teacher) == {}
    history = finetune(make_student(), teacher, synthetic, settings.recipe(), SCHEDULE)
    assert not {"attention", "activation_map"} & set(history.columns)


def poisoned(step):
    return step.logits.mean() * torch.nan


def failing(step):
    raise RuntimeError("failed")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("value", "error"), [(poisoned, NonFiniteLoss), (failing, RuntimeError)])
def test_an_exception_leaves_nothing_behind(
    module, value, error, make_student, teacher, synthetic, monkeypatch
):
    student = make_student()
    before = state(student)
    poison = Term("poison", 1.0, value)
    monkeypatch.setattr(objective, "distillation_term", lambda *_: poison)
    with pytest.raises(error, match=r"poison|failed"):
        finetune(student, teacher, synthetic, module.Student().recipe(), SCHEDULE)
    assert untouched(student, teacher)
    assert state(student) == before


def recorded(teacher, images):
    with teacher.recording() as recording:
        teacher(images)
        return Recording(list(recording.batch_norms), recording.features)


def test_pooled_statistics_are_those_of_all_images_together(teacher, images):
    parts = [
        (len(part), batch_statistics(recorded(teacher, part)))
        for part in images[:40].split((25, 15))
    ]
    for found, expected in zip(
        pooled_statistics(parts), batch_statistics(recorded(teacher, images[:40])), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_distance_to_the_centres_counts_the_deeper_layers(teacher, images):
    recording = recorded(teacher, images[:16])
    step = SynthesisStep(images[:16], torch.ones(16, 6) / 6, torch.zeros(16, 6), recording)
    statistics = batch_statistics(recording)
    centres = Centres(1.0, 0.1, statistics)
    assert centres.distance(step) == 0
    moved = [(mean + 1, variance) for mean, variance in statistics]
    centres.statistics = [
        moved[0],
        *statistics[1:],
    ]  # of four layers, the deeper part begins at the second
    assert centres.distance(step) == 0
    centres.statistics = [*statistics[:2], *moved[2:]]
    torch.testing.assert_close(centres.distance(step), torch.tensor(2 / 4))


def test_the_objective_of_centres_by_hand(teacher, images):
    recording = recorded(teacher, images[:6])
    step = SynthesisStep(images[:6], torch.eye(6), teacher(images[:6]), recording)
    layers = [
        (mean - layer.running_mean).square().mean() + (variance - layer.running_var).square().mean()
        for (layer, _), (mean, variance) in zip(
            recording.batch_norms, batch_statistics(recording), strict=True
        )
    ]
    expected = (0.2 * layers[0] + 1.1 * sum(layers[1:])) / 4 + 5 * soft_cross_entropy(
        step.logits, torch.eye(6)
    ).mean()
    torch.testing.assert_close(centre_objective()(step)[0], expected)


def test_released_synq_makes_no_centres(teacher):
    optimizer = PixelOptimizerConfig(iterations=4)
    assert (
        type(composed(synq.Images(layered_weight=0.0), teacher).source(teacher, optimizer))
        is PixelSource
    )
    source = composed(synq.Images(), teacher).source(teacher, optimizer)
    assert isinstance(source, CentredSource) and source.preparation_steps == 6


# Steps: twice 6 for centres, then three shards of 4.
@pytest.mark.parametrize("after", [3, 8, 12, 14, 19])
def test_a_killed_synq_goes_on_to_the_same_bytes(after, teacher, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration_centres, "CENTRES_AT_ONCE", 4)

    def run(name, scratch=None):
        source = composed(synq.Images(), teacher).source(
            teacher, PixelOptimizerConfig(iterations=4)
        )
        synthesize_set(source, 10, 4, 0, tmp_path / name, Scratch(scratch))
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    whole = run("whole")
    with killed_after(monkeypatch, after):
        run("killed", tmp_path / "scratch")
    with counted_steps(monkeypatch) as steps:
        assert run("resumed", tmp_path / "scratch") == whole
    batches = min(after // 6, 2)
    assert len(steps) == 24 - 6 * batches - 4 * ((after - 12) // 4 if after > 12 else 0)
