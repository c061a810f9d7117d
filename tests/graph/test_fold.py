"""Folding: the same function without BatchNorms, and what they said kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynadfq.graph.fold import fold
from dynadfq.zoo.architectures import build


def randomized(module: nn.Module) -> nn.Module:
    """BatchNorms with statistics and gains far from their initial ones."""
    rng = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2, generator=rng)
            layer.running_var.uniform_(0.5, 2, generator=rng)
            layer.weight.data.uniform_(-0.3, 1.5, generator=rng)
            layer.bias.data.normal_(0.2, 0.4, generator=rng)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


NETWORKS = {  # BatchNorms that stay, since no layer comes right before them
    "torchvision/resnet18": 0,
    "torchvision/mobilenet_v2": 0,
    "torchvision/densenet121": 62,
    "pytorchcv/resnet20_cifar10": 0,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_preserved(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = randomized(build(name, num_classes=10))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    folded = fold(module, images)
    expected = module(images)
    assert (folded.network(images) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert norms(folded.network) == NETWORKS[name] == norms(module) - len(folded.gaussians)
    layers = [
        layer for layer in folded.network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    assert all(layer.bias is not None for layer in layers)


def test_what_batch_norm_said_is_kept(make_net: Callable[[], nn.Module]) -> None:
    net = make_net()
    folded = fold(net, torch.zeros(1, 3, 8, 8))
    assert list(folded.gaussians) == ["conv1", "conv2", "conv3", "conv4"]
    for number in range(1, 5):
        mean, std = folded.gaussians[f"conv{number}"]
        norm = net.get_submodule(f"bn{number}")
        assert torch.equal(mean, norm.bias) and torch.equal(std, norm.weight.abs())


def test_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.75)).eval()
    for tensor, value in (
        (net[0].weight, 3.0),
        (net[0].bias, 5.0),
        (net[1].running_mean, 1.0),
        (net[1].running_var, 3.25),
        (net[1].weight, -2.0),
        (net[1].bias, 0.5),
    ):
        tensor.data.fill_(value)
    network, gaussians = fold(net, torch.zeros(1, 1, 2, 2))
    layer = network.get_submodule("0")
    assert layer.weight.item() == -3.0 and layer.bias.item() == 0.5 - 4.0
    assert [values.item() for values in gaussians["0"]] == [0.5, 2.0]


class Shared(nn.Module):
    """A convolution that two BatchNorms read, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.called_twice = (
            nn.Conv2d(3, 3, 1, bias=False),
            nn.Conv2d(3, 3, 1, bias=False),
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(4))
        self.gate = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        y = self.read_twice(x)
        x = self.norms[0](y) + self.norms[1](y)
        x = self.norms[3](self.called_twice(self.norms[2](self.called_twice(x))))
        return (x * self.gate(x + 3) / 6).mean((2, 3))


def test_what_others_read_too_is_left_alone() -> None:
    module, images = randomized(Shared()), torch.randn(2, 3, 4, 4)
    folded = fold(module, images, relu6_as_relu=True)
    assert not folded.gaussians and norms(folded.network) == 4
    assert torch.equal(folded.network(images), module(images)), "the ReLU6 of a hard gate stays one"


def test_relu6_may_become_relu() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU6()).eval()
    net[0].weight.data.fill_(1.0)
    net[0].bias.data.zero_()
    images = torch.tensor([-1.0, 3.0, 9.0]).view(1, 1, 1, 3)
    assert fold(net, images).network(images).flatten().tolist() == [0, 3, 6]
    assert fold(net, images, relu6_as_relu=True).network(images).flatten().tolist() == [0, 3, 9]


def test_the_module_is_not_touched(make_net: Callable[[], nn.Module]) -> None:
    net = make_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fold(net, torch.zeros(1, 3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Tokens(nn.Module):
    """A linear layer on tokens, and a BatchNorm of the tokens in place of the features."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x.flatten(2))).mean(2)


def test_a_batch_norm_of_another_axis_than_the_output_channels_stays() -> None:
    module, images = Tokens().eval(), torch.randn(2, 4, 2, 2)
    module.norm.running_var.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
    folded = fold(module, images)
    assert not folded.gaussians
    assert torch.equal(folded.network(images), module(images))
