from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import quantize
from dynadfq.models.normalize import normalize
from dynadfq.quant.layers import QuantConv2d
from dynadfq.teacher import Teacher


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
        self.a, self.b = Conv2dSame(3, 8, 3, stride=2, bias=False), Conv2dSame(8, 8, (5, 2), stride=2, groups=8)
        self.c, self.fc = Conv2dSame(8, 8, 3, dilation=2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))).mean((2, 3)))
        return logits


@pytest.mark.parametrize("size", [(16, 16), (17, 14)])
def test_the_traced_network_computes_the_same_and_all_layers_are_quantized(size: tuple[int, int]) -> None:
    net, images = Net().eval(), torch.randn(2, 3, *size)
    assert torch.equal(normalize(net, images)(images), net(images))
    assert type(net.a) is Conv2dSame and net.state_dict().keys() == normalize(net, images).state_dict().keys()
    student = quantize(Teacher(net, (3, *size), 4, (0,) * 3, (1,) * 3), activation_bits=4)
    assert [name for name, m in student.network.named_modules() if isinstance(m, QuantConv2d)] == ["a", "b", "c"]
    assert not student.cost.trace.float_calls
    with student.unquantized(), torch.no_grad():
        assert torch.equal(student(images), net(images))
