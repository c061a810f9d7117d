"""A network small enough to quantize, synthesize for and fine-tune in every test run, and what is
made of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch import Tensor, nn

from dynadfq.methods.base import MethodContext
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.build import build_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.selector_config import SelectorShape
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher

# The files that take longest begin first, so that no process is left with them at the end. The
# first one makes the experiment that the other files of tests/pipeline wait for.
FIRST = (
    "tests/pipeline/test_experiments.py",
    "tests/methods/test_all_methods.py",
    "tests/project/test_wheel.py",
    "tests/pipeline/test_launch.py",
    "tests/pipeline/test_outputs.py",
    "tests/pipeline/test_interrupts.py",
    "tests/pipeline/test_repro.py",
)
SHAPE, CLASSES = (3, 8, 8), 6
MEAN, STD = (0.5, 0.4, 0.6), (0.2, 0.3, 0.25)


class TinyNet(nn.Module):
    """Four convolutions with BatchNorm and ReLU, the last two around a shortcut, and a linear
    classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = (
            nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(12),
        )
        self.conv3, self.bn3 = nn.Conv2d(12, 12, 3, padding=1, groups=4), nn.BatchNorm2d(12)
        self.conv4, self.bn4 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(48, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        y = self.relu(self.bn3(self.conv3(x)))
        x = self.relu(x + self.bn4(self.conv4(y)))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that fork first, then those of ``FIRST`` in this order; the others keep theirs.

    Autograd runs in no fork of a process that has started its threads, as torch's exporters do.
    """
    order = {path: number for number, path in enumerate(FIRST)}

    def place(item: pytest.Item) -> int:
        forks = hasattr(getattr(item, "module", None), "run_ranks")
        return -1 if forks else order.get(item.nodeid.partition("::")[0], len(FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_setting() -> Iterator[None]:
    """No test's numbers depend on which tests ran before it."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def make_net() -> Callable[[], TinyNet]:
    """The same network each time, with statistics of the images it saw and a classifier that tells
    them apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TinyNet()
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.6, 1.4)
                nn.init.normal_(layer.bias, 0.2, 0.3)
                layer.momentum = None  # a plain average
        net.train()
        for _ in range(4):
            net(1.5 * torch.randn(64, *SHAPE) + 0.2)
        nn.init.normal_(net.fc.weight, std=0.4)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def build() -> TinyNet:
        fresh = TinyNet().eval()
        fresh.load_state_dict(state)
        return fresh

    return build


@pytest.fixture
def teacher(make_net: Callable[[], TinyNet]) -> Teacher:
    return Teacher(make_net(), SHAPE, CLASSES, MEAN, STD)


@pytest.fixture(scope="session")
def images() -> Tensor:
    """(256, 3, 8, 8), contrast and brightness differing from image to image."""
    rng = torch.Generator().manual_seed(1)
    contrast, brightness = torch.rand(2, 256, 1, 1, 1, generator=rng)
    return (0.5 + 2 * contrast) * torch.randn(256, *SHAPE, generator=rng) + brightness


@pytest.fixture(scope="session")
def make_student(make_net: Callable[[], TinyNet], images: Tensor) -> Callable[..., Student]:
    """Calibrated students; a dynamic one's selector answers differently from image to image."""
    teacher = Teacher(make_net(), SHAPE, CLASSES, MEAN, STD)

    def build(
        *activation_bits: int,
        varied: bool = True,
        shape: SelectorShape | None = None,
        **scheme: object,
    ) -> Student:
        widths = activation_bits or (3, 4, 5)
        target = widths[(len(widths) - 1) // 2]
        selector = shape or SelectorShape(pool=2, hidden=16)
        student = build_student(
            teacher,
            Scheme(
                weight_bits=4,
                activation_bits=widths,
                target_bits=target,
                selector=selector,
                **scheme,
            ),
        )  # type: ignore[arg-type]
        calibrate(student, images.split(64), extremes)
        if varied and student.selector is not None:
            _tell_images_apart(student, images)
        return student

    return build


@torch.no_grad()
def _tell_images_apart(student: Student, images: Tensor) -> None:
    """Random weights in the selector's last layer, and biases that give each candidate its share of
    the images."""
    selector, last = student.selector, last_linear(student)
    assert selector is not None
    last.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(2))
    seen: list[Tensor] = []
    with selector.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        student(images)
    mean = selector.probabilities(seen[0])[:, 1:].log().mean(dim=0)
    last.bias.sub_(mean.flatten())


@pytest.fixture(scope="session")
def last_linear_of_selector() -> Callable[[Student], nn.Linear]:
    return last_linear


def last_linear(student: Student) -> nn.Linear:
    assert student.selector is not None
    return [module for module in student.selector.modules() if isinstance(module, nn.Linear)][-1]


@pytest.fixture(scope="session")
def synthetic(
    make_net: Callable[[], TinyNet], tmp_path_factory: pytest.TempPathFactory
) -> SyntheticSet:
    """24 images in shards of 8, three iterations each."""
    teacher = Teacher(make_net(), SHAPE, CLASSES, MEAN, STD)
    recipe = DynaDFQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0))
    folder: Path = tmp_path_factory.mktemp("synthetic")
    return synthesize_set(
        recipe.source(teacher, PixelOptimizerConfig(iterations=3)), 24, 8, 0, folder, Scratch(None)
    )
