from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import quantize
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize
from dynadfq.graph.plain_layers import replace_by_plain_layers
from dynadfq.quant.build import load_student
from dynadfq.quant.layers import QuantConv2d
from dynadfq.teacher.teacher import Teacher


class Conv2dSame(nn.Conv2d):
    """As timm writes it: padding worked out from the input's size."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for axis in (1, 0):
            size, stride, reach = (
                x.shape[2 + axis],
                self.stride[axis],
                (self.kernel_size[axis] - 1) * self.dilation[axis],
            )
            total = max((math.ceil(size / stride) - 1) * stride + reach + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = F.pad(x, pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (
            Conv2dSame(3, 8, 3, stride=2, bias=False),
            Conv2dSame(8, 8, (5, 2), stride=2, groups=8),
        )
        self.c, self.fc = Conv2dSame(8, 8, 3, dilation=2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))).mean((2, 3)))
        return logits


@pytest.mark.parametrize("size", [(16, 16), (17, 14)])
def test_the_traced_network_computes_the_same_and_all_layers_are_quantized(
    size: tuple[int, int],
) -> None:
    net, images = Net().eval(), torch.randn(2, 3, *size)
    assert torch.equal(normalize(net, images)(images), net(images))
    assert (
        type(net.a) is Conv2dSame
        and net.state_dict().keys() == normalize(net, images).state_dict().keys()
    )
    student = quantize(Teacher(net, (3, *size), 4, (0,) * 3, (1,) * 3), activation_bits=4)
    assert [name for name, m in student.network.named_modules() if isinstance(m, QuantConv2d)] == [
        "a",
        "b",
        "c",
    ]
    assert not student.cost.trace.float_calls
    with student.unquantized(), torch.no_grad():
        assert torch.equal(student(images), net(images))


class Standardized(nn.Conv2d):
    """Weight standardization, as in timm's ``StdConv2d`` and ``ScaledStdConv2d``."""

    def __init__(self, *args: int, **settings: int) -> None:
        super().__init__(*args, **settings)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.gain * (self.weight - self.weight.mean((1, 2, 3), keepdim=True))
        return F.conv2d(
            F.pad(x, (1, 0, 1, 0)),
            weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class Masked(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mask", torch.arange(outputs * inputs).view(outputs, inputs) % 2)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight * self.mask, bias=self.bias)


def made_on_every_call() -> nn.Module:
    """Layers whose weights are not the parameters that a checkpoint holds."""
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1))
    hooked = nn.utils.spectral_norm(nn.Conv2d(6, 6, 1))
    layers = [Standardized(3, 6, 3, stride=2, padding=1), normed, hooked]
    return nn.Sequential(
        *(part for layer in layers for part in (layer, nn.ReLU())), nn.Flatten(), Masked(6 * 25, 4)
    )


def test_weights_made_on_every_call_are_quantized_as_they_are_multiplied(tmp_path: Path) -> None:
    net, images = made_on_every_call().eval().requires_grad_(False), torch.randn(2, 3, 8, 8)
    student = quantize(Teacher(net, (3, 8, 8), 4, (0,) * 3, (1,) * 3), activation_bits=4)
    assert [layer.weight.requires_grad for layer in student.layers] == [True] * 4
    assert not student.cost.trace.float_calls
    with student.unquantized(), torch.no_grad():
        assert torch.equal(student(images), net(images))
    student.save(tmp_path)
    with torch.no_grad():
        assert torch.equal(load_student(tmp_path, made_on_every_call())(images), student(images))


def parametrized() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3, padding=1))


@pytest.mark.parametrize("layer", [parametrized, lambda: Conv2dSame(3, 3, 3)])
@pytest.mark.parametrize("called", [["one", "other"], ["one"], ["other"], ["other", "one"]])
def test_a_layer_of_two_names_is_replaced_under_both(
    layer: Callable[[], nn.Module], called: list[str], tmp_path: Path
) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = layer()
            self.other, self.relu, self.fc = self.one, nn.ReLU(), nn.Linear(3 * 64, 4)

        def forward(self, x: Tensor) -> Tensor:
            for name in called:
                x = self.relu(self.get_submodule(name)(x))
            logits: Tensor = self.fc(x.flatten(1))
            return logits

    net, images = Named().eval(), torch.randn(2, 3, 8, 8)
    student = quantize(Teacher(net, (3, 8, 8), 4, (0,) * 3, (1,) * 3), activation_bits=4)
    assert [call.kind for call in student.cost.trace.layers] == ["conv"] * len(called) + ["linear"]
    with student.unquantized(), torch.no_grad():
        assert torch.equal(student(images), net(images))
    student.train()(images).sum().backward()
    assert all(weight.weight.grad is not None for weight in student.layers)
    student.eval().save(tmp_path)
    with torch.no_grad():
        assert torch.equal(load_student(tmp_path, Named())(images), student(images))


class Routed(nn.Conv2d):
    """A weight that depends on the image."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * x.mean().sigmoid(), self.bias)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias) * 2


class Shortcut(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.conv2d(x, self.weight, self.bias)


class Reflected(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.weight, self.bias)


@pytest.mark.parametrize("kind", [Routed, Doubled, Shortcut, Reflected])
def test_a_layer_that_does_something_else_stays_as_it_is(kind: type[nn.Conv2d]) -> None:
    net, images = (
        nn.Sequential(kind(3, 3, 1), nn.ReLU(), nn.Flatten()).eval(),
        torch.randn(1, 3, 4, 4),
    )
    trace = describe(normalize(net, images), (3, 4, 4))
    assert not trace.layers and len(trace.float_calls) == 1


class Stop(Exception):
    pass


class Stopping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise Stop


def test_a_stop_leaves_no_hook() -> None:
    net = nn.Sequential(Conv2dSame(3, 3, 3), Stopping())
    with pytest.raises(Stop):
        replace_by_plain_layers(net, torch.randn(1, 3, 4, 4))
    assert type(net[0]) is Conv2dSame
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_one_padded_layer_for_maps_of_two_sizes_stays_in_float_and_computes_the_same() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = Conv2dSame(3, 3, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x)).flatten(1)

    twice, images = Twice().eval(), torch.randn(2, 3, 9, 9)
    network = normalize(twice, images)
    assert torch.equal(network(images), twice(images))
    trace = describe(network, (3, 9, 9))
    assert not trace.layers and [call.operation for call in trace.float_calls] == [
        "conv2d",
        "conv2d",
    ]
