"""A student made in Python of a class in the working directory, used by the commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import dynadfq
from dynadfq.cli.app import COMMANDS

Run = Callable[..., Any]
NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        )
        self.fc = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.fc(self.body(images).mean((2, 3)))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of one's own, and models of it."""
    (tmp_path / "network_of_ones_own.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    module = importlib.import_module("network_of_ones_own")
    teacher = dynadfq.Teacher(module.Net(), (3, 8, 8), 3, [0.5] * 3, [0.25] * 3, ["a", "b", "c"])
    teacher.save("teacher")
    images = dynadfq.synthesize(teacher, num_images=4, iterations=1, batch_size=4)
    images.save("images")
    student = dynadfq.quantize(teacher, activation_bits=4)
    dynadfq.finetune(student, teacher, images, steps=1, batch_size=4)
    student.save("student")
    for name in "abc":
        Path("photographs", name).mkdir(parents=True)
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(Path("photographs", name, "1.png"))
    monkeypatch.undo()  # as when another program made them
    del sys.modules["network_of_ones_own"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the working directory
    return tmp_path


def test_commands_load_a_class_of_the_working_directory(run: Run, place: Path) -> None:
    for command in (
        "inspect student",
        "predict student photographs/*/1.png",
        "evaluate student photographs --teacher teacher",
        "similarity teacher",
        "bench student --batch 1 --repeats 2 --engine torch",
    ):
        refused = run(command)
        assert refused.status == 1 and "--trust network_of_ones_own:Net" in refused.err
        done = run(command, "--trust network_of_ones_own:Net")
        assert done.status == 0 and done.out, done.err


def test_every_command_that_loads_a_model_can_be_told_what_to_trust() -> None:
    for command in COMMANDS:
        parameters = signature(command.run).parameters
        assert ("model" in parameters) == ("trust" in parameters), command.NAME
