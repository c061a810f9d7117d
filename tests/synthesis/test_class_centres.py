import pytest
import torch
from torch.nn.functional import one_hot

from dynadfq.losses.objective import SynthesisStep
from dynadfq.synthesis.class_centres import ClassCentres, marginal_distance
from dynadfq.synthesis.dataset import Batch
from dynadfq.teacher.recording import Recording

RNG = torch.Generator().manual_seed(0)
LABELS = one_hot(torch.arange(16) % 5, 6).float()  # class 5 never comes


def step(features, soft_labels):
    nothing = torch.zeros(len(features))
    return SynthesisStep(nothing, soft_labels, nothing, Recording([], features))


def features_of(teacher, images):
    with torch.no_grad(), teacher.recording() as recording:
        teacher(images)
        assert recording.features is not None
        return recording.features


def test_a_margin_of_everything_is_zero():
    features, centres = torch.randn(2, 100, 7, generator=RNG)
    assert marginal_distance(features, centres, 0.0, 2.0).abs().max() < 1e-6
    assert marginal_distance(features, -features, 0.0, 2.0).abs().max() < 1e-6


def test_the_margin_by_hand():
    """Distances 0, 1 - cos 60°, 1 and 2."""
    features = torch.tensor(
        [[2.0, 0.0], [0.5, 0.75**0.5], [0.0, 3.0], [-1.0, 0.0]], requires_grad=True
    )
    centres = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    outside = marginal_distance(features, centres, 0.25, 0.75)
    torch.testing.assert_close(outside, torch.tensor([0.25, 0.0, 0.25, 1.25]))
    (gradient,) = torch.autograd.grad(outside.sum(), features)
    assert not gradient[1].any() and gradient[2].any()


def test_centres_are_means_over_all_finished_images(teacher, images):
    centres = ClassCentres(teacher)
    for part in torch.arange(16).split([7, 9]):
        centres.remember(Batch(images[part], LABELS[part]))
    features = features_of(teacher, images[:16])
    for label in range(5):
        torch.testing.assert_close(
            centres.sums[label] / centres.counts[label], features[LABELS[:, label] == 1].mean(dim=0)
        )
    assert centres.counts.flatten().tolist() == [4, 3, 3, 3, 3, 0]


def test_images_of_classes_without_a_centre_are_free(teacher, images):
    centres = ClassCentres(teacher)
    features = torch.randn(4, 48, generator=RNG).requires_grad_()
    labels = one_hot(torch.tensor([0, 5, 1, 5]), 6).float()
    first = centres.margin(step(features, labels), 0.5, 0.6)
    assert first.item() == 0 and not torch.autograd.grad(first, features)[0].any()
    centres.remember(Batch(images[:16], LABELS))
    loss = centres.margin(step(features, labels), 0.5, 0.6)
    means = torch.stack([centres.sums[label] / centres.counts[label] for label in (0, 1)])
    torch.testing.assert_close(loss, marginal_distance(features[[0, 2]], means, 0.5, 0.6).mean())
    (gradient,) = torch.autograd.grad(loss, features)
    assert torch.isfinite(gradient).all() and not gradient[[1, 3]].any() and gradient[[0, 2]].any()


def test_a_soft_label_counts_for_its_largest_class(teacher, images):
    hard = ClassCentres(teacher)
    soft = ClassCentres(teacher)
    hard.remember(Batch(images[:16], LABELS))
    soft.remember(Batch(images[:16], 0.6 * LABELS + 0.4 / 6))
    assert torch.equal(hard.sums, soft.sums)
    assert hard.sums.sum().item() == pytest.approx(
        features_of(teacher, images[:16]).sum().item(), rel=1e-4
    )
