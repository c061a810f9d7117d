"""GDFQ, Qimera and AdaDFQ: what is their own."""

import json
import math

import pytest
import torch

from dynadfq.api import synthesize
from dynadfq.losses.adaptability import (
    agreement_term,
    disagreement_term,
    margin,
    margin_term,
    normalized_entropy,
)
from dynadfq.losses.objective import StudentStep, SynthesisStep, distillation
from dynadfq.methods import gdfq, qimera
from dynadfq.methods.adadfq import Images, Student, zero_sum
from dynadfq.methods.qimera import Superpositions
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.generator import CARD, GeneratorTraining
from dynadfq.synthesis.latent import SuperposedEmbeddings
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.teacher import Teacher


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def synthesis_step(teacher_logits, student_logits, labels):
    soft = torch.nn.functional.one_hot(labels, teacher_logits.shape[1]).float()
    return SynthesisStep(
        torch.zeros(len(labels), 1, 2, 2), soft, teacher_logits, Recording(), student_logits
    )


def student_step(teacher_logits, logits):
    soft = torch.full_like(logits, 1 / logits.shape[1])
    return StudentStep(soft, logits, teacher_logits, torch.ones(len(logits)))


@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_three_losses_are_half_the_class_variance_and_released_kd_is_a_classth_of_it(classes):
    teacher = torch.randn(64, classes, generator=rng(), dtype=torch.float64)
    logits = teacher + 0.3 * torch.randn(64, classes, generator=rng(1), dtype=torch.float64)
    half_variance = 0.5 * (teacher - logits).var(dim=1, correction=0).mean()
    for loss in (distillation(teacher, logits, 200.0), zero_sum(teacher, logits, 200.0)):
        assert float(loss) == pytest.approx(float(half_variance), rel=0.01)
    element_mean = distillation(teacher, logits, 20.0, "elementmean")
    assert float(distillation(teacher, logits, 20.0)) == pytest.approx(
        classes * float(element_mean)
    )


def test_the_published_kd_is_an_option_of_both_methods():
    step = student_step(torch.randn(8, 6, generator=rng()), torch.randn(8, 6, generator=rng(1)))
    for module in (gdfq, qimera):
        values = {}
        for reduction in ("batchmean", "elementmean"):
            [label, kd] = module.Student(kd_reduction=reduction).terms()
            assert (label.weight, kd.weight) == (1.0, 1.0)
            values[reduction] = float(kd.value(step))
        assert values["batchmean"] == pytest.approx(6 * values["elementmean"])


def test_adadfqs_students_loss_is_the_published_one_plus_a_constant():
    teacher, logits = torch.randn(2, 8, 6, generator=rng(), dtype=torch.float64)
    [term] = Student(temperature=5.0).terms()
    p = ((teacher - logits) / 5).softmax(dim=1)
    published = -25 * -(p * p.log()).sum(dim=1).mean()
    assert float(term.value(student_step(teacher, logits))) == pytest.approx(
        float(published) + 25 * math.log(6)
    )
    assert float(zero_sum(teacher, teacher + 3.0, 5.0)) == pytest.approx(
        0, abs=1e-12
    )  # all classes moved alike


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("min_detach", [True, False])
def test_normalized_entropy_lies_in_0_to_1_and_its_gradient_is_finite(batch, spread, min_detach):
    difference = (spread * torch.randn(batch, 10, generator=rng())).requires_grad_()
    entropy = normalized_entropy(difference, min_detach)
    assert entropy.shape == (batch,) and (entropy >= 0).all() and (entropy <= 1).all()
    (slope,) = torch.autograd.grad(margin(entropy, 0.1, 0.8), difference)
    assert torch.isfinite(slope).all()


def test_normalized_entropy_by_hand():
    even = [0.0, 0.0, 0.0, 0.0]
    certain = [50.0, 0.0, 0.0, 0.0]
    between = [math.log(3.0), math.log(3.0), 0.0, 0.0]  # 3/8, 3/8, 1/8, 1/8
    expected = -(0.75 * math.log(3 / 8) + 0.25 * math.log(1 / 8)) / math.log(4)
    found = normalized_entropy(torch.tensor([even, certain, between]))
    assert found.tolist() == pytest.approx([1.0, 0.0, expected], abs=1e-4)
    agreed = normalized_entropy(torch.tensor([even, even]))
    assert agreed.tolist() == pytest.approx([1.0, 1.0], abs=0.01)  # too easy, not too hard


def test_the_margin_is_0_exactly_inside():
    inside = torch.linspace(0.25, 0.75, 11)
    assert float(margin(inside, 0.25, 0.75)) == 0
    for outside in (0.2, 0.8):
        assert float(margin(torch.tensor([0.5, outside]), 0.25, 0.75)) == pytest.approx(0.025)


def test_the_smallest_entropy_may_move_or_stand_still():
    step = synthesis_step(
        torch.randn(6, 10, generator=rng()), torch.randn(6, 10, generator=rng(1)), torch.arange(6)
    )
    logits = step.logits.requires_grad_()
    slopes = {}
    for detach in (True, False):
        (slopes[detach],) = torch.autograd.grad(margin_term(0.1, 0.8, detach).value(step), logits)
    hardest = int(normalized_entropy(logits - step.student_logits).argmin())
    assert not torch.allclose(slopes[True], slopes[False])
    assert (
        slopes[True][hardest].abs().sum() > 0
    )  # only if its entropy is a constant does the hardest image get easier


def test_agreement_and_disagreement_by_hand():
    teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    student = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    step = synthesis_step(teacher, student, torch.tensor([0, 1]))
    disagree = (
        math.log1p(math.exp(-1.0)) + math.log1p(math.exp(2.0))
    ) / 2  # differences 1 and -2 for the label
    agree = (math.log1p(math.exp(-3.0)) + math.log1p(math.exp(-4.0))) / 2
    assert float(disagreement_term(1.0).value(step)) == pytest.approx(disagree)
    assert float(agreement_term(1.0).value(step)) == pytest.approx(agree)


def test_without_a_student_the_teacher_agrees_with_itself():
    teacher = torch.randn(5, 10, generator=rng())
    labels = torch.arange(5)
    alone = synthesis_step(teacher, None, labels)
    both = synthesis_step(teacher, teacher, labels)
    for term in (agreement_term(1.0), disagreement_term(1.0), margin_term(0.1, 0.8, True)):
        assert torch.equal(term.value(alone), term.value(both))
    assert float(disagreement_term(1.0).value(alone)) == pytest.approx(math.log(10))
    assert float(agreement_term(1.0).value(alone)) == pytest.approx(
        float(torch.nn.functional.cross_entropy(2 * teacher, labels))
    )
    assert float(margin_term(0.1, 0.8, True).value(alone)) == pytest.approx(0.2, abs=0.01)


def test_superpositions_share_an_image_by_weight():
    mixture = Superpositions(10, 4, 1.0)(500, rng())
    assert mixture.classes.shape == mixture.weights.shape == (500, 4)
    torch.testing.assert_close(mixture.weights.sum(dim=1), torch.ones(500))
    assert (mixture.weights > 0).all()
    expected = torch.zeros(500, 10)
    for image in range(500):
        for k in range(4):
            expected[image, mixture.classes[image, k]] += mixture.weights[image, k]
    torch.testing.assert_close(mixture.soft_labels, expected)
    assert ((mixture.soft_labels > 0).sum(dim=1) < 4).any()  # with replacement
    assert set(mixture.classes.unique().tolist()) == set(range(10))


def test_a_batch_is_superposed_as_a_whole_with_the_asked_probability():
    stream = rng()
    sample = Superpositions(10, 3, 0.4)
    mixed = [sample(4, stream).classes.shape[1] == 3 for _ in range(2000)]
    assert sum(mixed) / 2000 == pytest.approx(0.4, abs=0.04)
    single = Superpositions(10, 3, 0.0)(8, rng())
    assert single.classes.shape == (8, 1) and (single.soft_labels.amax(dim=1) == 1).all()


def test_qimeras_embeddings_start_where_they_are_told(teacher):
    def latent(**changes):
        images = qimera.Images(**changes)
        found = GeneratorTraining(teacher, images.generator(teacher)).network.latent
        assert isinstance(found, SuperposedEmbeddings)
        return found

    rows = teacher.class_weights
    assert torch.equal(latent(embedding="classifier").embedding.weight, rows)
    assert (
        latent().embedding.weight.shape == rows.shape
        and not torch.isclose(latent().embedding.weight, rows).any()
    )
    assert latent().features == 100 and latent(disentangled=False).features == rows.shape[1]
    assert latent(noise_scale=0.3).noise_scale == 0.3


def test_adadfqs_generator_is_gdfqs(teacher):
    ours, theirs = (
        GeneratorTraining(teacher, images.generator(teacher)).network
        for images in (Images(), gdfq.Images())
    )
    assert str(ours) == str(theirs)


@pytest.mark.parametrize(
    "images", [Images(), gdfq.Images(), qimera.Images()], ids=["adadfq", "gdfq", "qimera"]
)
def test_large_images_have_class_conditional_batch_norm(images, make_net):
    net = make_net()
    for side, expected in ((64, False), (65, True)):
        large = Teacher(net, (3, side, side), 6, (0.0,) * 3, (1.0,) * 3)
        assert images.generator(large).conditional == expected
        assert (
            images.model_copy(update={"class_conditional": "always"}).generator(large).conditional
        )
        assert (
            not images.model_copy(update={"class_conditional": "never"})
            .generator(large)
            .conditional
        )


def test_adadfqs_images_are_of_a_class_too(teacher, tmp_path):
    source = (
        Images(generator_batch_size=8)
        .generator(teacher)
        .source(teacher, PixelOptimizerConfig(iterations=2))
    )
    assert synthesize_set(source, 8, 8, 0, tmp_path, Scratch(None)).one_hot_recognized is not None


def test_the_generators_batch_is_a_hyperparameter_in_python_too(teacher):
    images = synthesize(
        teacher, "gdfq", num_images=6, iterations=1, batch_size=3, generator_batch_size=4
    )
    assert (
        len(images) == 6
        and json.loads((images.folder / CARD).read_text())["images"]["generator_batch_size"] == 4
    )
