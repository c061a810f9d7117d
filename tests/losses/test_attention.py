import math

import pytest
import torch

from dynadfq.losses.attention import (
    LAST_MAP,
    attention_distance,
    attention_transfer,
    channel_attention,
    class_activation_map,
    map_distance,
)
from dynadfq.losses.objective import StudentStep


def maps(seed=0):
    return torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


def test_equal_features_have_distance_zero_and_a_channel_more_counts():
    f = maps()
    g = maps(1)
    assert attention_distance([(f, f), (g, g)]) == 0
    assert attention_distance([(f, g)]) > 0
    torch.testing.assert_close(
        attention_distance([(f, g), (g, f)]),
        attention_distance([(f, g)]) + attention_distance([(g, f)]),
    )


@pytest.mark.parametrize("scale", [1e-3, 0.5, 40.0])
def test_attention_does_not_depend_on_the_scale_of_a_map(scale):
    torch.testing.assert_close(channel_attention(scale * maps()), channel_attention(maps()))
    assert attention_distance([(scale * maps(), maps())]) < 1e-12


def test_attention_distance_by_hand():
    ours = torch.tensor([[[[1.0, -1.0]], [[1.0, 1.0]]]])  # energies 1, 1: attention 1/√2 each
    theirs = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]]])  # energies 4.5, 0: attention 1, 0
    expected = ((0.5**0.5 - 1) ** 2 + 0.5) / 2
    torch.testing.assert_close(attention_distance([(ours, theirs)]), torch.tensor(expected))


def test_an_empty_map_has_no_attention():
    assert torch.equal(channel_attention(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3))


def softmax(values, temperature=1.0):
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_attention_transfer_by_hand():
    theirs = torch.tensor([[[[1.0, 1.0]], [[1.0, -1.0]]], [[[2.0, 0.0]], [[0.0, 0.0]]]])
    ours = torch.tensor([[[[3.0, 1.0]], [[0.0, 1.0]]], [[[2.0, 0.0]], [[0.0, 0.0]]]])
    # Of the first image; the second one's are equal. Energies of channels: 1, 1 and 5, 1/2.
    # Of pixels: 1, 1 and 9/2, 1, which are divided by their norms, √2 and √(85/4).
    channels = divergence(softmax([0.5, 0.5], 8), softmax(softmax([5, 0.5]), 8))
    norm = (85 / 4) ** 0.5
    pixels = divergence(softmax([0.5**0.5] * 2, 8), softmax([4.5 / norm, 1 / norm], 8))
    expected = torch.tensor(64 * (channels + pixels) / 2)
    torch.testing.assert_close(attention_transfer([(ours, theirs)]), expected)
    assert attention_transfer([(theirs, theirs)]) == 0
    torch.testing.assert_close(attention_transfer([(ours, theirs)] * 3), 3 * expected)


def test_attention_transfer_is_the_mean_over_images_and_draws_the_student_to_the_teacher():
    ours, theirs = maps().requires_grad_(), maps(1)
    whole = attention_transfer([(ours, theirs)])
    each = [attention_transfer([(ours[i : i + 1], theirs[i : i + 1])]) for i in range(5)]
    torch.testing.assert_close(whole, torch.stack(each).mean())
    (slope,) = torch.autograd.grad(whole, ours)
    assert 0 <= attention_transfer([(ours - slope, theirs)]) < whole


def scores_of(features, weights):
    return (features.mean(dim=(2, 3)) * weights).sum(dim=1)


def test_activation_map_by_hand():
    features = torch.tensor(
        [[[[1.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]]]], requires_grad=True
    )
    scores = scores_of(features, torch.tensor([1.0, -2.0]))
    # slopes are 1/4 and -2/4 at every pixel: evidence (1, 0, 1, -2) / 4, of which the positive
    # part, from 0 to 1
    torch.testing.assert_close(
        class_activation_map(scores, features),
        torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]),
        rtol=0,
        atol=1e-6,
    )


def test_activation_maps_span_zero_to_one_in_each_image():
    features = maps().requires_grad_()
    found = class_activation_map(scores_of(features, torch.tensor([1.0, 2.0, 3.0, -1.0])), features)
    assert found.shape == (5, 3, 3) and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(found.amax(dim=(1, 2)), torch.ones(5))
    assert torch.equal(found.amin(dim=(1, 2)), torch.zeros(5))


def test_a_map_without_differences_is_zero():
    features = torch.ones(2, 3, 4, 4, requires_grad=True)
    assert torch.equal(
        class_activation_map(scores_of(features, torch.ones(3)), features), torch.zeros(2, 4, 4)
    )


def test_the_weights_of_channels_count_as_constants():
    features = maps().requires_grad_()
    found = class_activation_map(
        features.square().sum(dim=(1, 2, 3)), features
    )  # the slopes depend on the features
    (slope,) = torch.autograd.grad(found.sum(), features)
    weights = (2 * features).mean(dim=(2, 3), keepdim=True).detach()
    evidence = (weights * features).sum(dim=1).relu()
    low = evidence.amin(dim=(1, 2), keepdim=True)
    high = evidence.amax(dim=(1, 2), keepdim=True)
    (expected,) = torch.autograd.grad(((evidence - low) / (high - low)).sum(), features)
    torch.testing.assert_close(slope, expected)


def test_map_distance_looks_at_the_labels_class():
    ours = maps().requires_grad_()
    theirs = maps(1).requires_grad_()
    head = torch.tensor([[1.0, -1.0, 2.0, 0.5], [0.3, 2.0, -1.0, 1.0]])
    labels = torch.eye(2)[[0, 1, 1, 0, 1]]
    step = StudentStep(
        labels,
        ours.mean(dim=(2, 3)) @ head.T,
        theirs.mean(dim=(2, 3)) @ head.T,
        torch.ones(5),
        {LAST_MAP: [(ours, theirs)]},
    )
    mine, other = (class_activation_map(scores_of(f, labels @ head), f) for f in (ours, theirs))
    torch.testing.assert_close(map_distance(step), (mine - other).square().mean())
    same = step._replace(teacher_logits=step.logits, features={LAST_MAP: [(ours, ours)]})
    assert map_distance(same) == 0
