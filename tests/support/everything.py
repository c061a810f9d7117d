"""A network with every structure that scheme ``integer`` has a rule for, and students of it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import Student, Teacher, quantize
from dynadfq.ptq.calibration import calibrate, extremes

SHAPE = (3, 8, 8)
MEAN, STD = (0.45, 0.4, 0.6), (0.2, 0.3, 0.25)


class Everything(nn.Module):
    """One of each: depthwise and grouped convolutions, a linear bottleneck with a shortcut, a gate,
    Hardswish and SiLU, a split, a concatenation, both pools, a layer that is called twice, the
    addition of a constant, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.depthwise_norm = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.BatchNorm2d(8)
        self.project, self.project_norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.twice_norm = nn.BatchNorm2d(4)
        self.shift = nn.Parameter(torch.full((1, 8, 1, 1), 0.25))
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self.stem_norm(self.stem(images)))
        y = F.hardswish(self.depthwise_norm(self.depthwise(x)))
        x = x + self.project_norm(self.project(y))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        x = F.silu(self.grouped(x * torch.sigmoid(gate)))
        left, right = F.max_pool2d(x, 2).chunk(2, dim=1)
        left = F.relu(self.twice_norm(self.twice(left)))
        right = F.relu(self.twice(F.avg_pool2d(right, 3, 1, 1)))
        x = torch.cat([left, right], dim=1) + self.shift
        logits: Tensor = self.fc(self.dropout(x.mean([2, 3])))
        return logits


@lru_cache
def pixels() -> Tensor:
    """(64, 3, 8, 8) normalized pixels of 8 bits."""
    codes = torch.randint(0, 256, (64, *SHAPE), generator=torch.Generator().manual_seed(3))
    return (codes / 255 - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)


@lru_cache
def everything() -> Teacher:
    """The network with statistics of these pixels; half of the BatchNorm gains are negative."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = Everything()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, -1.4, 1.4)
                nn.init.normal_(layer.bias, 0.3, 0.3)
        nn.init.normal_(network.fc.weight)
        network.train()(pixels())
    return Teacher(network.eval(), SHAPE, 6, MEAN, STD)


def integer_student(
    weight_bits: int = 8, activation_bits: int = 8, teacher: Teacher | None = None
) -> Student:
    """A calibrated student of scheme ``integer``."""
    student = quantize(teacher or everything(), weight_bits, activation_bits, scheme="integer")
    calibrate(student, [pixels()], extremes)
    return student
