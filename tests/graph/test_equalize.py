"""Pairs, equalization and absorption: known counts, the same function, equal ranges."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dynadfq.graph.equalize import absorb_high_biases, equalize
from dynadfq.graph.fold import Folded, fold
from dynadfq.graph.pairs import find_chains, find_pairs
from dynadfq.zoo.architectures import build


def randomized(module: nn.Module, high: float = 0.0) -> nn.Module:
    """BatchNorms that differ from their initial ones, and channels of very different ranges."""
    rng = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2, generator=rng)
            layer.running_var.uniform_(0.01, 2, generator=rng)
            layer.weight.data.uniform_(0.1, 1.5, generator=rng)
            layer.bias.data.normal_(high, 0.4, generator=rng)
    return module.eval()


@lru_cache
def folded(name: str) -> tuple[Folded, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(name, num_classes=10)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return fold(randomized(module), images, relu6_as_relu=True), images


def output_ranges(layer: nn.Module) -> Tensor:
    return torch.stack([row.abs().max() for row in layer.weight.detach()])


def input_ranges(layer: nn.Module, channels: int) -> Tensor:
    """One channel at a time: the largest weight that reads it."""
    weight, groups = layer.weight.detach(), getattr(layer, "groups", 1)
    if isinstance(layer, nn.Linear):
        return torch.stack([part.abs().max() for part in weight.chunk(channels, dim=1)])
    of_group = [part.unbind(dim=1) for part in weight.chunk(groups)]
    return torch.stack([column.abs().max() for columns in of_group for column in columns])


CHAINS = {  # by number of pairs, and whether an activation lies behind the first layer
    "torchvision/resnet18": {(1, True): 8},
    "torchvision/resnet50": {(1, True): 32},
    "torchvision/mobilenet_v2": {(2, True): 17, (1, False): 2, (1, True): 1},
    "pytorchcv/mobilenetv2_w1": {(2, True): 17, (1, False): 2, (1, True): 2},
    "pytorchcv/resnet20_cifar10": {(1, True): 9},
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_pairs_of_known_networks(name: str) -> None:
    chains = find_chains(folded(name)[0].network)
    assert Counter((len(chain), chain[0].rectified) for chain in chains) == CHAINS[name]
    firsts = [pair.first for chain in chains for pair in chain]
    assert len(firsts) == len(set(firsts)), "no layer is the first of two pairs"


def test_relu6_stands_between_layers_unless_it_is_replaced() -> None:
    module = torchvision.models.mobilenet_v2(weights=None).eval()
    pairs = find_pairs(fold(module, torch.zeros(1, 3, 32, 32)).network)
    assert len(pairs) == 2 and not any(pair.rectified for pair in pairs)


@pytest.mark.parametrize("name", CHAINS)
def test_equalization_preserves_the_function_and_is_done_when_done(name: str) -> None:
    source, images = folded(name)
    done = equalize(source)
    expected = source.network(images).detach()
    assert (done.network(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    for chain in find_chains(done.network):
        layers = [
            done.network.get_submodule(n)
            for n in (chain[0].first, *(pair.second for pair in chain))
        ]
        ranges = [output_ranges(layers[0])]
        ranges += [input_ranges(layer, len(ranges[0])) for layer in layers[1:]]
        for other in ranges[1:]:
            torch.testing.assert_close(other, ranges[0], rtol=1e-3, atol=0)
    again = equalize(done)
    for key, tensor in done.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], tensor, rtol=1e-3, atol=1e-6)


def sequence(*layers: nn.Module, size: int = 5) -> tuple[Folded, Tensor]:
    """A sequential network of random positive scales, folded."""
    rng = torch.Generator().manual_seed(2)
    module = nn.Sequential(*layers)
    for parameter in module.parameters():
        parameter.data.normal_(generator=rng)
        if parameter.dim() > 1:
            parameter.data *= 10 ** torch.randn(
                len(parameter), *[1] * (parameter.dim() - 1), generator=rng
            )
    images = torch.randn(4, 3, size, size, generator=rng)
    return fold(module.eval(), images), images


SEQUENCES = {
    "pair": (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.Flatten()),
    "identity": (nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 1), nn.Flatten()),
    "grouped": (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2), nn.Flatten()),
    "depthwise multiplier": (
        nn.Conv2d(3, 4, 3),
        nn.PReLU(4),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Flatten(),
    ),
    "flattened": (
        nn.Conv2d(3, 4, 3),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 5),
    ),
    "several inputs a channel": (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)),
    "linear": (nn.Flatten(), nn.Linear(75, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5)),
    "triplet": (
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 2, 1),
        nn.Flatten(),
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_one_step_makes_the_ranges_of_a_chain_equal(name: str) -> None:
    source, images = sequence(*SEQUENCES[name])
    (chain,) = find_chains(source.network)
    done = equalize(source, sweeps=1)
    expected = source.network(images).detach()
    torch.testing.assert_close(
        done.network(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())
    )
    names = [chain[0].first, *(pair.second for pair in chain)]
    before, after = (
        [output_ranges(f.network.get_submodule(names[0]))]
        + [
            input_ranges(f.network.get_submodule(n), len(f.network.get_submodule(names[0]).weight))
            for n in names[1:]
        ]
        for f in (source, done)
    )
    common = torch.stack(before).log().mean(dim=0).exp()
    for found in after:
        torch.testing.assert_close(found, common, rtol=1e-4, atol=0)
    assert not torch.allclose(before[0], common, rtol=0.1)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 6, 3), nn.Flatten()),
        (nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 6, 3), nn.Flatten()),
        (nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(9, 5), nn.Flatten()),
        (nn.Conv2d(3, 4, 5), nn.Flatten(1, 2), nn.Linear(1, 5), nn.Flatten()),
    ],
)
def test_what_scaling_does_not_pass_is_no_pair(layers: tuple[nn.Module, ...]) -> None:
    assert not find_pairs(sequence(*layers)[0].network)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        return self.head(self.second(x)).mean((2, 3))


def test_a_layer_that_is_called_twice_is_in_no_pair() -> None:
    assert not find_pairs(fold(Twice().eval(), torch.zeros(1, 3, 4, 4)).network)


def test_dead_channels_stay_as_they_are() -> None:
    source, images = sequence(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten())
    first, second = (source.network.get_submodule(name) for name in ("0", "2"))
    first.weight.data[0], second.weight.data[:, 1] = 0.0, 0.0
    done = equalize(source)
    assert torch.equal(done.network.get_submodule("0").weight[:2], first.weight[:2])
    assert torch.equal(done.network.get_submodule("2").weight[:, :2], second.weight[:, :2])
    torch.testing.assert_close(done.network(images), source.network(images), rtol=1e-4, atol=1e-4)


def normal_pair(*between: nn.Module, last: nn.Module) -> tuple[nn.Sequential, Folded, Tensor]:
    """Two layers with a BatchNorm of high bias behind the first, and images that it is exact
    for."""
    rng = torch.Generator().manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=None), *between, last, nn.Flatten()
    )
    images = torch.randn(500, 3, 4, 4, generator=rng)
    net[1].weight.data = torch.tensor([0.5, -0.2, 0.1, 1.0])
    net[1].bias.data = torch.tensor([2.0, 1.0, -0.5, 2.0])
    net.train()(images)
    return net, fold(net.eval(), images), images


def test_the_distributions_follow_the_scaling() -> None:
    _, source, images = normal_pair(nn.ReLU(), last=nn.Conv2d(4, 6, 1))
    for changed in (source, equalize(source), absorb_high_biases(equalize(source))):
        mean, std = changed.gaussians["0"]
        outputs = changed.network.get_submodule("0")(images)
        torch.testing.assert_close(
            outputs.mean((0, 2, 3)), mean, atol=1e-3 * float(std.max()), rtol=1e-3
        )
        torch.testing.assert_close(outputs.std((0, 2, 3)), std, atol=0, rtol=1e-2)


def test_absorption_is_exact_where_nothing_is_cut_off() -> None:
    _, source, images = normal_pair(nn.ReLU(), last=nn.Conv2d(4, 6, 1))
    done = absorb_high_biases(source)
    absorbed = source.gaussians["0"].mean - done.gaussians["0"].mean
    torch.testing.assert_close(absorbed, torch.tensor([0.5, 0.4, 0.0, 0.0]))
    layer, other = source.network.get_submodule("3"), done.network.get_submodule("3")
    first, changed = (
        source.network.get_submodule("0")(images).relu(),
        done.network.get_submodule("0")(images).relu(),
    )
    expected, found = layer(first).movedim(1, -1), other(changed).movedim(1, -1)
    kept = (first > absorbed.view(-1, 1, 1)).movedim(1, -1)[..., :2].all(dim=-1)
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-5, rtol=1e-5)
    assert 0.99 < kept.float().mean() < 1


def test_zero_padding_forbids_absorption_unless_it_is_asked_for() -> None:
    net, source, images = normal_pair(nn.ReLU(), last=nn.Conv2d(4, 6, 3, padding=1))
    assert torch.equal(absorb_high_biases(source).network(images), source.network(images))
    forced = absorb_high_biases(source, padded=True)
    difference = (forced.network(images) - net(images)).abs().view(500, 6, 4, 4)
    assert difference[:, :, 1:3, 1:3].median() < 1e-5 < 0.1 < difference[:, :, 0].median()


def test_without_an_activation_all_of_the_mean_is_absorbed_exactly() -> None:
    net, source, images = normal_pair(nn.AdaptiveAvgPool2d(2), last=nn.Conv2d(4, 4, 1, groups=4))
    done = absorb_high_biases(source)
    assert done.gaussians["0"].mean.abs().max() == 0
    torch.testing.assert_close(done.network(images), net(images), atol=1e-5, rtol=1e-5)
