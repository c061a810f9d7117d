import pytest
import torch
from torch import nn

from dynadfq.losses.bn_statistics import bn_statistics_per_image, gaps_per_image, image_statistics
from dynadfq.losses.slack import Slack, distances_beyond, layerwise_enhanced, measure_slack
from dynadfq.teacher.recording import Recording


def none_of(teacher):
    layers = sum(isinstance(module, nn.BatchNorm2d) for module in teacher.module.modules())
    return [Slack(torch.zeros(()), torch.zeros(()))] * layers


def distances(teacher, images, slack):
    with teacher.recording() as recording:
        teacher(images)
        return distances_beyond(slack, recording)


def test_without_slack_and_enhancement_it_is_zeroqs_loss(teacher, images):
    ours = layerwise_enhanced(
        distances(teacher, images[:8], none_of(teacher)), 0.0
    ) + image_statistics(images[:8])
    with teacher.recording() as recording:
        teacher(images[:8])
        torch.testing.assert_close(ours, bn_statistics_per_image(recording, images[:8]))


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_inside_the_slack_there_is_neither_loss_nor_gradient(teacher, images, granularity):
    slack = measure_slack(teacher, images[:8], 1.0, granularity)
    inside = images[:8].clone().requires_grad_()
    loss = distances(teacher, inside, slack)
    (gradient,) = torch.autograd.grad(loss.sum(), inside)
    assert loss.shape == (8, 4) and not loss.any() and not gradient.any()
    assert distances(teacher, 3 * images[:8], slack).sum() > 0


def test_distances_by_hand():
    layer = nn.BatchNorm2d(2)
    layer.running_mean = torch.tensor([0.0, 0.0])
    layer.running_var = torch.tensor([1.0, 1.0])
    x = torch.tensor([[[[1.0, 3.0]], [[-4.0, -4.0]]]])  # means 2, -4; deviations √2, 0
    slack = [Slack(torch.tensor(1.5), torch.tensor(0.5))]
    expected = 0.5**2 + 2.5**2 + 0 + 0.5**2  # √2 - 1 is inside
    found = distances_beyond(slack, Recording([(layer, x)]))
    torch.testing.assert_close(found, torch.tensor([[expected]]), atol=2e-3, rtol=0)
    per_channel = [Slack(torch.tensor([1.5, 4.0]), torch.tensor([0.0, 2.0]))]
    expected = 0.5**2 + 0 + (2**0.5 - 1) ** 2
    found = distances_beyond(per_channel, Recording([(layer, x)]))
    torch.testing.assert_close(found, torch.tensor([[expected]]), atol=2e-3, rtol=0)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 1.0])
def test_the_quantile_is_the_share_of_gaps_inside(teacher, images, quantile):
    layers = measure_slack(teacher, images, quantile, "layer")
    channels = measure_slack(teacher, images, quantile, "channel")
    with teacher.recording() as recording:
        teacher(images)
        for gaps, layer, channel in zip(gaps_per_image(recording), layers, channels, strict=True):
            for gap, slack, slacks in zip(gaps, layer, channel, strict=True):
                assert slack.shape == () and slacks.shape == gap.shape[1:]
                inside = (gap.abs() <= slack + 1e-6).double().mean().item()
                assert inside == pytest.approx(quantile, abs=2 / gap.numel())
                inside = (gap.abs() <= slacks + 1e-6).double().mean(dim=0)
                torch.testing.assert_close(
                    inside, torch.full_like(inside, quantile), atol=2 / len(gap), rtol=0
                )


def test_layerwise_enhancement_by_its_formula():
    loss = torch.rand(10, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for weight in (0.0, 1.0, 3.0):
        expected = sum(loss[i].sum() + weight * loss[i, i % 4] for i in range(10)) / 10
        torch.testing.assert_close(layerwise_enhanced(loss, weight), expected)
    whole = loss[0].expand(4, 4)  # distances of a whole batch: the paper's matrix, row by row
    matrix = torch.eye(4, dtype=torch.float64) + 1
    torch.testing.assert_close(layerwise_enhanced(whole, 1.0), (matrix @ loss[0]).sum() / 4)
    torch.testing.assert_close(layerwise_enhanced(whole, 1.0), 5 / 4 * loss[0].sum())


def test_maps_of_one_pixel_have_a_mean_alone():
    layer = nn.BatchNorm2d(2)
    recording = Recording([(layer, torch.tensor([[[[2.0]], [[0.5]]]]))])
    found = distances_beyond([Slack(torch.tensor(1.0), torch.tensor(0.0))], recording)
    torch.testing.assert_close(found, torch.tensor([[1.0]]))
