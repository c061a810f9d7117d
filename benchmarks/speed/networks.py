"""The networks that steps are timed on, with batches of noise, on which times hardly depend."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dynadfq import api
from dynadfq.quant.model import Student
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher


@dataclass(frozen=True)
class Network:
    """An architecture, the shape of its images, and how many of them are a batch."""

    architecture: str
    shape: tuple[int, int, int]
    classes: int
    batch: int
    rounds: int


NETWORKS = {
    "resnet20": Network("pytorchcv/resnet20_cifar10", (3, 32, 32), 10, 64, 15),
    "resnet18": Network("torchvision/resnet18", (3, 224, 224), 1000, 8, 5),
}


class Bench:
    """A teacher and one batch on a device; the teacher is untrained, with BN statistics of
    noise.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.network, self.device = name, NETWORKS[name], device
        shape, classes, batch = self.network.shape, self.network.classes, self.network.batch
        torch.manual_seed(0)
        self.teacher: Teacher = load_teacher(
            self.network.architecture, pretrained=False, num_classes=classes, input_shape=shape
        )
        self.teacher.module.train()
        with torch.no_grad():
            for _ in range(10):
                self.teacher.module(torch.randn(8, *shape))
        self.teacher.module.eval()
        self.teacher.to(device)
        images = torch.randn(batch, *shape)
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        self.labels: Tensor = torch.randint(classes, (batch,)).to(device)
        self.soft_labels = one_hot(self.labels, classes).float()

    @property
    def title(self) -> str:
        """Return the text beside a ratio."""
        height, width = self.network.shape[1:]
        return f"{self.name}, {height}×{width}, batch {self.network.batch}"

    def student(self, activation_bits: int | tuple[int, ...]) -> Student:
        """Return a student whose ranges fit the activations of noise."""
        student = api.quantize(self.teacher, 4, activation_bits)
        with torch.no_grad():
            for site in student.sites:
                site.high.fill_(3.0)
        return student
