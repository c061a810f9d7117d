from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.graph.activations import is_activation_call
from dynadfq.graph.normalize import normalize


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self.conv(images)).mean((2, 3))


def sites_of(module: nn.Module) -> list[nn.Module]:
    model = normalize(module, torch.randn(2, 3, 5, 5))
    return [
        model.get_submodule(str(node.target))
        for node in model.graph.nodes
        if is_activation_call(node, model)
    ]


@pytest.mark.parametrize(
    ("function", "kind", "settings"),
    [
        (F.relu, nn.ReLU, {}),
        (torch.relu, nn.ReLU, {}),
        (lambda x: x.relu(), nn.ReLU, {}),
        (lambda x: F.relu(x, inplace=True), nn.ReLU, {}),
        (lambda x: F.relu(x, True), nn.ReLU, {}),
        (lambda x: F.relu(input=x), nn.ReLU, {}),
        (F.relu_, nn.ReLU, {}),
        (torch.relu_, nn.ReLU, {}),
        (lambda x: x.relu_(), nn.ReLU, {}),
        (lambda x: F.relu6(x, True), nn.ReLU6, {}),
        (
            lambda x: F.hardtanh(x, -2.0, max_val=0.5),
            nn.Hardtanh,
            {"min_val": -2.0, "max_val": 0.5},
        ),
        (lambda x: F.leaky_relu(x, 0.2, True), nn.LeakyReLU, {"negative_slope": 0.2}),
        (lambda x: F.elu_(x, 0.5), nn.ELU, {"alpha": 0.5}),
        (F.selu, nn.SELU, {}),
        (lambda x: F.celu(x, alpha=2.0), nn.CELU, {"alpha": 2.0}),
        (lambda x: F.gelu(x, approximate="tanh"), nn.GELU, {"approximate": "tanh"}),
        (lambda x: F.silu(x, inplace=True), nn.SiLU, {}),
        (F.mish, nn.Mish, {}),
        (F.hardswish, nn.Hardswish, {}),
        (lambda x: F.softplus(x, 2), nn.Softplus, {"beta": 2}),
        (torch.tanh, nn.Tanh, {}),
        (lambda x: x.tanh_(), nn.Tanh, {}),
    ],
)
def test_every_spelling_of_an_activation_is_one_site_with_the_same_settings(
    function: Callable[[Tensor], Tensor], kind: type[nn.Module], settings: dict[str, object]
) -> None:
    (site,) = sites_of(Call(function))
    assert type(site) is kind
    assert {name: getattr(site, name) for name in settings} == settings
    assert not getattr(site, "inplace", False)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu6 = nn.ReLU6(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.relu6(features + 3) / 6


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * torch.sigmoid(x),
        lambda x: x * F.hardsigmoid(x),
        lambda x: x * F.relu6(x + 3.0, inplace=True) / 6.0,
        lambda x: x * F.relu6(3 + x) / 6.0,
        lambda x: x * x.softmax(dim=1),
        Gate(),
    ],
)
def test_a_gate_is_no_site(function: Callable[[Tensor], Tensor]) -> None:
    assert sites_of(Call(function)) == []


class Swish(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features * features.sigmoid()


class Shifted(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return input.clamp(min=-1.0)


@pytest.mark.parametrize("activation", [Swish(), Shifted()])
def test_activations_of_other_types_are_known_by_their_name_or_base(activation: nn.Module) -> None:
    (site,) = sites_of(Call(activation))
    assert type(site) is type(activation)
