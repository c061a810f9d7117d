"""A network of milliseconds, whose files are damaged."""

from __future__ import annotations

from torch import nn

SHAPE = (3, 8, 8)
CLASSES = 5


def build(in_channels: int = 3, num_classes: int = CLASSES) -> nn.Module:
    """Return three convolutions with BatchNorm and ReLU, and a linear classifier."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(in_channels, 8), *block(8, 8), *block(8, 8)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)]
    return nn.Sequential(*layers, *head).eval()
