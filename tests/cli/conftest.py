"""Models and images on disk, and a way to run commands on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

import dynadfq
from dynadfq.cli.app import main
from dynadfq.ptq.calibration import calibrate, extremes

NAMES = ["cat", "dog", "a class whose name is very long indeed", "bird", *"123456"]
SHAPE = (3, 16, 16)


class Models(NamedTuple):
    """Folders."""

    teacher: Path
    student: Path
    fixed: Path
    synthetic: Path
    images: Path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """ResNet-20 with random weights: a teacher, a dynamic and a fixed student, synthetic images and
    image files."""
    top = tmp_path_factory.mktemp("models")
    folders = Models(*(top / name for name in Models._fields))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = dynadfq.load_teacher(
            "pytorchcv/resnet20_cifar10",
            None,
            False,
            len(NAMES),
            SHAPE,
            [0.5, 0.4, 0.3],
            [0.2, 0.3, 0.25],
            NAMES,
        )
        teacher.save(folders.teacher)
        batch = torch.randn(16, *SHAPE)
        for folder, bits in ((folders.student, (3, 4, 5)), (folders.fixed, 4)):
            student = dynadfq.quantize(teacher, activation_bits=bits)
            calibrate(student, [batch], extremes)
            if student.selector is not None:
                student.selector.choice.weight.data.normal_()
            student.save(folder)
        dynadfq.synthesize(
            teacher, num_images=16, iterations=1, batch_size=8, folder=folders.synthetic
        )
        folders.images.mkdir()
        for number, size in enumerate([(16, 16), (40, 24), (8, 9)]):
            pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folders.images / f"{number}.png")
    return folders


class Outcome(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command; a text may be several arguments."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        words: list[str] = []
        for argument in arguments:
            words += argument.split() if isinstance(argument, str) else [str(argument)]
        status: object = 0
        try:
            main(words)
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return Outcome(int(status or 0), captured.out, captured.err)  # type: ignore[call-overload]

    return call
