import math

import pytest
import torch
from torch import nn

from dynadfq.losses.bn_statistics import (
    bn_statistics_norm,
    bn_statistics_per_image,
    gaps_per_image,
    image_statistics,
)
from dynadfq.teacher.recording import Recording


def layer_with(mean, variance):
    layer = nn.BatchNorm2d(len(mean)).double()
    layer.running_mean = torch.tensor(mean).double()
    layer.running_var = torch.tensor(variance).double()
    return layer


X = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[5.0, 7.0]], [[0.0, 4.0]]]], dtype=torch.float64)


def test_gaps_by_hand():
    (gaps,) = gaps_per_image(Recording([(layer_with([3.0, 0.0], [4.0, 1.0]), X)]))
    mean, std = gaps
    torch.testing.assert_close(mean, torch.tensor([[-1.0, 0.0], [3.0, 2.0]]).double())
    root = math.sqrt(2)  # of the unbiased variances: 2, 0 and 2, 8
    expected = torch.tensor([[root - 2, 0.0 - 1], [root - 2, 2 * root - 1]]).double()
    torch.testing.assert_close(std, expected, atol=2e-3, rtol=0)  # the 1e-6 under the roots


def test_the_norm_loss_by_hand():
    """Means 4, 1; biased variances 5, 3: the gaps are (1, 1) and (1, 2), and their norms are not
    squared."""
    pair = (layer_with([3.0, 0.0], [4.0, 1.0]), X)
    one = math.sqrt(2) + math.sqrt(5)
    assert bn_statistics_norm(Recording([pair])).item() == pytest.approx(one)
    assert bn_statistics_norm(Recording([pair, pair])).item() == pytest.approx(
        2 * one
    )  # a sum over layers
    assert bn_statistics_norm(Recording([pair, pair, pair]), 10.0).item() == pytest.approx(12 * one)


def test_statistics_that_agree_cost_nothing_and_pull_nowhere():
    x = X.clone().requires_grad_()
    loss = bn_statistics_norm(Recording([(layer_with([4.0, 1.0], [5.0, 3.0]), x)]))
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.item() == pytest.approx(0, abs=1e-12) and torch.isfinite(gradient).all()


def test_the_per_image_loss_is_made_of_gaps(teacher, images):
    with teacher.recording() as recording:
        teacher(images[:8])
        squares = [
            (mean.square() + std.square()).sum() / 8 for mean, std in gaps_per_image(recording)
        ]
        whole = bn_statistics_per_image(recording, images[:8])
    torch.testing.assert_close(whole, sum(squares, image_statistics(images[:8])))


def test_a_map_of_one_pixel_has_no_gap_of_deviations():
    x = X[:, :, :, :1]
    ((mean, std),) = gaps_per_image(Recording([(layer_with([3.0, 0.0], [4.0, 1.0]), x)]))
    torch.testing.assert_close(mean, torch.tensor([[-2.0, 0.0], [2.0, 0.0]]).double())
    assert not std.any()
