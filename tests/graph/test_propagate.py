"""Statistics along the graph: those of samples, where the assumptions hold, and NaN where nothing
is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynadfq.graph.fold import fold
from dynadfq.graph.normalize import normalize
from dynadfq.graph.propagate import propagate
from dynadfq.graph.statistics import Statistics
from dynadfq.zoo.architectures import build


class Blocks(nn.Module):
    """Two BatchNorms whose inputs are independent noise, and everything that may follow them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.relu, self.relu6, self.silu, self.sigmoid = (
            nn.ReLU(),
            nn.ReLU6(),
            nn.SiLU(),
            nn.Sigmoid(),
        )
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.linear = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        left, right = self.left(left), self.right(right)
        rectified = self.relu6(left)
        added = self.relu(rectified + right)
        gated = self.silu(left) * self.sigmoid(right)
        joined = torch.cat([gated, left], dim=1)[:, 2:6]
        convolved = self.conv(self.relu(right))
        pooled = nn.functional.adaptive_avg_pool2d(self.relu(convolved), 2)
        return self.linear(torch.flatten(pooled, 1)).sum() + added.sum() + joined.sum()


@pytest.fixture(scope="module")
def blocks() -> tuple[dict[str, Statistics], dict[str, Tensor]]:
    """What is predicted, and what 20000 samples give."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Blocks().eval()
    for norm in (net.left, net.right):
        norm.weight.data.uniform_(0.3, 2, generator=rng)
        norm.bias.data.normal_(0.5, 1, generator=rng)
        norm.eps = 1e-12  # torch 2.11 refuses 0
    network = normalize(net, torch.zeros(1, 8, 4, 4))
    values: dict[str, Tensor] = {}

    class Keep(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                values[n.name] = result
            return result

    with torch.no_grad():
        Keep(network).run(torch.randn(20_000, 8, 4, 4, generator=rng))
    return propagate(network, (8, 4, 4)), values


@pytest.mark.parametrize(
    "name", ["relu6", "add", "silu", "sigmoid", "mul", "cat", "getitem_2", "conv", "relu_2"]
)
def test_moments_are_those_of_samples(
    blocks: tuple[dict[str, Statistics], dict[str, Tensor]], name: str
) -> None:
    found, samples = blocks[0][name], blocks[1][name]
    assert found.mean.shape == samples[:1].shape
    scale = samples.std()
    # Products of channel 0 of both sides are independent; the convolution's outputs are normal by
    # its many inputs.
    tolerance = 0.15 if name == "relu_2" else 0.05
    assert (found.mean[0] - samples.mean(dim=0)).abs().max() < tolerance * scale
    assert (found.variance[0].sqrt() - samples.std(dim=0)).abs().max() < tolerance * scale


@pytest.mark.parametrize(
    "name", ["relu6", "relu", "silu", "sigmoid", "cat", "add", "adaptive_avg_pool2d", "flatten"]
)
def test_intervals_hold_nearly_all_samples(
    blocks: tuple[dict[str, Statistics], dict[str, Tensor]], name: str
) -> None:
    found, samples = blocks[0][name], blocks[1][name]
    inside = (samples >= found.low - 1e-3) & (samples <= found.high + 1e-3)
    assert inside.float().mean() > 0.999


def test_zero_padding_is_seen(blocks: tuple[dict[str, Statistics], dict[str, Tensor]]) -> None:
    mean = blocks[0]["conv"].mean[0]
    assert not torch.allclose(mean[:, 0, 0], mean[:, 1, 1], rtol=0.05)
    torch.testing.assert_close(mean[:, 1, 1], mean[:, 2, 2])


def test_folding_changes_nothing_that_is_known(make_net: Callable[[], nn.Module]) -> None:
    net, example = make_net(), torch.zeros(1, 3, 8, 8)
    plain = propagate(normalize(net, example), (3, 8, 8))
    folded = fold(net, example)
    after = propagate(folded.network, (3, 8, 8), folded.gaussians)
    assert after["images"].mean.isnan().all()
    shared = [
        name for name in after if name in plain and not name.startswith("conv") and name != "images"
    ]
    assert len(shared) >= 7
    for name in shared:
        for ours, theirs in zip(after[name].parts, plain[name].parts, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for number in range(1, 5):
        torch.testing.assert_close(after[f"conv{number}"].high, plain[f"bn{number}"].high)


@pytest.mark.parametrize(
    "name",
    ["torchvision/densenet121", "torchvision/shufflenet_v2_x0_5", "torchvision/mobilenet_v3_small"],
)
def test_every_tensor_behind_the_first_layer_of_real_networks(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = normalize(build(name, num_classes=10), torch.zeros(1, 3, 32, 32))
    found = propagate(network, (3, 32, 32))
    unknown = [
        node
        for node, statistics in found.items()
        if not all(part.isfinite().all() for part in statistics.parts)
    ]
    placeholder, first = list(found)[:2]
    assert unknown == [placeholder, first]


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return (x.softmax(dim=1) + x.view(x.size(0), 3, -1).mean(2)[:, :, None, None]).mean(
            (2, 3)
        ) + 1.0


def test_what_is_not_followed_is_unknown_and_stays_so() -> None:
    found = propagate(normalize(Odd().eval(), torch.zeros(1, 3, 4, 4)), (3, 4, 4))
    assert found["softmax"].mean.isnan().all() and found["add_1"].high.isnan().all()
    assert found["view"].mean.shape == (1, 3, 16) and found["mean"].mean.isfinite().all()
