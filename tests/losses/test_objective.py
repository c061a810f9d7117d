import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from dynadfq.losses.bn_statistics import bn_statistics_of_batch, bn_statistics_per_image
from dynadfq.losses.objective import (
    BN_STATISTICS,
    Objective,
    StudentStep,
    SynthesisStep,
    Term,
    bit_regularization,
    distillation,
    distillation_term,
    image_class_term,
    label_entropy,
    label_term,
    prediction_entropy,
    soft_cross_entropy,
)
from dynadfq.ops.moments import moments
from dynadfq.teacher.recording import Recording

RNG = torch.Generator().manual_seed(0)
LOGITS, OTHERS = 3 * torch.randn(2, 16, 7, generator=RNG, dtype=torch.float64)
LABELS = torch.rand(16, 7, generator=RNG, dtype=torch.float64).softmax(dim=1)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_distillation_is_torchs_kl_divergence(temperature):
    student = (OTHERS / temperature).log_softmax(1)
    teacher = (LOGITS / temperature).softmax(1)
    expected = kl_div(student, teacher, reduction="batchmean") * temperature**2
    torch.testing.assert_close(
        distillation(LOGITS, OTHERS, temperature), expected, atol=1e-12, rtol=0
    )
    assert distillation(LOGITS, OTHERS, temperature) != distillation(OTHERS, LOGITS, temperature)
    assert distillation(LOGITS, LOGITS + 3, temperature).abs() < 1e-12


def test_soft_cross_entropy_is_torchs():
    expected = cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(LOGITS, LABELS), expected, atol=1e-12, rtol=0)
    one_hot = torch.eye(7, dtype=torch.float64)[torch.arange(16) % 7]
    expected = cross_entropy(LOGITS, torch.arange(16) % 7, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(LOGITS, one_hot), expected, atol=1e-12, rtol=0)


def test_entropies():
    expected = torch.distributions.Categorical(logits=LOGITS).entropy()
    torch.testing.assert_close(prediction_entropy(LOGITS), expected)
    assert prediction_entropy(torch.tensor([[1000.0, 0.0]])).item() == 0
    expected = torch.distributions.Categorical(probs=LABELS).entropy()
    torch.testing.assert_close(label_entropy(LABELS), expected)
    assert label_entropy(torch.tensor([[1.0, 0.0, 0.0]])).item() == 0
    assert label_entropy(torch.full((1, 4), 0.25)).item() == pytest.approx(math.log(4))


def test_bit_regularization_by_hand():
    ratio = torch.tensor([0.5, 1.0, 1.25, 2.0], requires_grad=True)
    value = bit_regularization(ratio)
    assert value.item() == pytest.approx(torch.tensor([1.0, 1.0, 1.25, 2.0]).mean().item() - 1)
    value.backward()
    assert ratio.grad is not None and ratio.grad.tolist() == [0.0, 0.0, 0.25, 0.25]


@pytest.mark.parametrize(
    ("dims", "correction"), [((2, 3), 1), ((2, 3), 0), ((0, 2, 3), 0), ((1,), 1)]
)
def test_moments_are_torchs_with_their_gradients(dims, correction):
    x = (2 + torch.randn(4, 3, 5, 6, generator=RNG, dtype=torch.float64)).requires_grad_()
    variance, mean = torch.var_mean(x, dims, correction=correction)
    ours = moments(x, dims, correction)
    torch.testing.assert_close(ours[0], mean, atol=1e-12, rtol=0)
    torch.testing.assert_close(ours[1], variance, atol=1e-12, rtol=0)
    weights = torch.randn(2, *mean.shape, generator=RNG, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((weights[0] * m).sum() + (weights[1] * v.sqrt()).sum(), x)[0]
        for m, v in [ours, (mean, variance)]
    ]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-10, rtol=0)
    assert torch.autograd.gradcheck(lambda x: moments(x, dims, correction), x)


@pytest.mark.parametrize("dims", [(2, 3), (0, 2, 3)])
def test_a_mean_far_from_zero_costs_the_variance_no_digits(dims):
    x = 1000 + torch.randn(8, 3, 6, 6, generator=RNG)
    expected = x.double().var(dims, correction=0)
    torch.testing.assert_close(
        moments(x, dims, correction=0)[1].double(), expected, rtol=1e-4, atol=0
    )


def recording_of(x, mean, variance):
    layer = nn.BatchNorm2d(len(mean)).to(x.dtype)
    layer.running_mean = torch.tensor(mean).to(x)
    layer.running_var = torch.tensor(variance).to(x)
    return Recording([(layer, x)])


def test_per_image_bn_loss_by_hand():
    images = torch.tensor(
        [[[[0.0, 2.0]]], [[[1.0, 1.0]]]], dtype=torch.float64
    )  # means 1, 1; variances 2, 0
    x = torch.tensor(
        [[[[1.0, 3.0]], [[0.0, 0.0]]]] * 2, dtype=torch.float64
    )  # means 2, 0; variances 2, 0
    recording = recording_of(x, [1.5, 0.5], [4.0, 1.0])
    root = math.sqrt(2)
    input_term = (1 + (root - 1) ** 2 + 1 + (0 - 1) ** 2) / 2
    layer_term = 0.5**2 + (root - 2) ** 2 + 0.5**2 + (0 - 1) ** 2
    loss = bn_statistics_per_image(recording, images)
    assert loss.item() == pytest.approx(
        input_term + layer_term, abs=3e-3
    )  # the 1e-6 under the roots
    assert loss.item() == pytest.approx(
        BN_STATISTICS["per_image_std"](step(images, recording)).item()
    )


def test_a_map_of_one_pixel_has_a_mean_alone():
    images = torch.zeros(2, 1, 1, 2)
    images[:, 0, 0] = torch.tensor([-1.0, 1.0]) / math.sqrt(2)  # mean 0, deviation 1: no loss
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    flat = bn_statistics_per_image(recording_of(x, [1.0, 1.0], [7.0, 7.0]), images)
    pixel = bn_statistics_per_image(
        recording_of(x[:, :, None, None], [1.0, 1.0], [7.0, 7.0]), images
    )
    assert flat.item() == pytest.approx((0 + 1 + 4 + 9) / 2, abs=1e-5)
    assert pixel.item() == flat.item()


def test_batch_bn_loss_by_hand():
    x = torch.tensor(
        [[[[1.0, 3.0]], [[0.0, 0.0]]], [[[5.0, 7.0]], [[0.0, 4.0]]]], dtype=torch.float64
    )
    recording = recording_of(x, [3.0, 0.0], [4.0, 1.0])  # means 4, 1; biased variances 5, 3
    loss = bn_statistics_of_batch(recording)
    assert loss.item() == pytest.approx((1 + 1) / 2 + (1 + 4) / 2)
    recording.batch_norms.extend(recording.batch_norms[:])
    assert bn_statistics_of_batch(recording).item() == pytest.approx(
        loss.item()
    )  # a mean over layers
    assert BN_STATISTICS["batch_var"](step(x, recording)).item() == pytest.approx(loss.item())


def step(images, recording, classes=7):
    return SynthesisStep(images, LABELS[: len(images)], LOGITS[: len(images)], recording)


def bn_loss(teacher, images, name):
    with teacher.recording() as recording:
        teacher(images)
        return BN_STATISTICS[name](step(images, recording))


def test_per_image_loss_of_a_batch_is_the_mean_of_its_parts(teacher, images):
    parts = images[:16].split([3, 8, 5])
    for name, holds in [("per_image_std", True), ("batch_var", False)]:
        whole = bn_loss(teacher, images[:16], name)
        mean = sum(len(part) * bn_loss(teacher, part, name) for part in parts) / 16
        assert torch.isclose(whole, torch.as_tensor(mean), rtol=1e-5, atol=0) == holds


@pytest.mark.parametrize("name", BN_STATISTICS)
def test_bn_losses_agree_with_torch_var_mean(teacher, images, name):
    expected = torch.zeros(())
    with teacher.recording() as recording:
        teacher(images[:16])
        assert len(recording.batch_norms) == 4
        if name == "per_image_std":
            for x, mean, std in [(images[:16], torch.tensor(0.0), torch.tensor(1.0))] + [
                (x, layer.running_mean, layer.running_var.sqrt())
                for layer, x in recording.batch_norms
            ]:
                s, m = torch.std_mean(x, (2, 3))
                expected = expected + ((m - mean).square() + (s - std).square()).sum(1).mean()
        else:
            for layer, x in recording.batch_norms:
                v, m = torch.var_mean(x, (0, 2, 3), correction=0)
                distance = (m - layer.running_mean).square() + (v - layer.running_var).square()
                expected = expected + distance.mean() / 4
        torch.testing.assert_close(
            BN_STATISTICS[name](step(images[:16], recording)), expected, rtol=1e-3, atol=1e-4
        )


def test_an_objective_adds_weighted_terms_and_skips_those_without_weight():
    def fail(_):
        raise AssertionError("evaluated")

    objective = Objective([label_term(0.5), distillation_term(2.0, 4.0), Term("off", 0.0, fail)])
    total, values = objective(StudentStep(LABELS, OTHERS, LOGITS, torch.ones(16)))
    assert list(values) == ["label", "distillation"]
    torch.testing.assert_close(values["label"], soft_cross_entropy(OTHERS, LABELS).mean())
    torch.testing.assert_close(values["distillation"], distillation(LOGITS, OTHERS, 4.0))
    torch.testing.assert_close(total, 0.5 * values["label"] + 2 * values["distillation"])


def test_the_image_class_term_is_the_mean_cross_entropy():
    synthesis = step(torch.zeros(16, 1, 2, 2), Recording())
    term = image_class_term(0.1)
    assert (term.name, term.weight) == ("class", 0.1)
    torch.testing.assert_close(term.value(synthesis), cross_entropy(LOGITS, LABELS))
