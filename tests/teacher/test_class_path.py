"""The import path that a teacher records by itself names a class that makes its network again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import dynadfq
from dynadfq.teacher.import_path import class_path
from dynadfq.teacher.teacher import Teacher
from dynadfq.zoo.architectures import build

SHAPE = (3, 8, 8)


class Plain(nn.Module):
    """A network with an activation of choice, one width, and as many classes as are asked for."""

    def __init__(self, num_classes: int = 6, activation: str = "relu", width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.act = {"relu": nn.ReLU(), "silu": nn.SiLU()}[activation]
        self.fc = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.act(self.conv(images)).mean(dim=(2, 3)))
        return logits


class NeedsWidth(Plain):
    def __init__(self, width: int) -> None:
        super().__init__(width=width)


class Fails(Plain):
    made = False

    def __init__(self) -> None:
        if Fails.made:
            raise RuntimeError("only once")
        Fails.made = True
        super().__init__()


def local() -> nn.Module:
    class Local(Plain):
        pass

    return Local()


def of_a_script() -> nn.Module:
    network = type("Net", (Plain,), {"__module__": "__main__"})
    return network()  # type: ignore[no-any-return]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "plain": (Plain, True),
    "no argument that changes the network": (lambda: Plain(6, "relu", 4), True),
    "another activation": (lambda: Plain(activation="silu"), False),
    "another width": (lambda: Plain(width=5), False),
    "an argument is missing": (lambda: NeedsWidth(4), False),
    "an exception": (Fails, False),
    "a class in a function": (local, False),
    "a class of a script": (of_a_script, False),
    "a container": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_class_is_recorded_if_it_makes_the_same_network(name: str) -> None:
    make, expected = NETWORKS[name]
    network = make().eval()
    before = torch.random.get_rng_state()
    found = class_path(network, SHAPE, 6)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found == (f"{__name__}:Plain" if expected else None)


def test_a_teacher_records_its_class_unless_it_is_given_one() -> None:
    def teacher(network: nn.Module, **more: str) -> Teacher:
        return Teacher(network, SHAPE, 7, [0.0] * 3, [1.0] * 3, **more)  # type: ignore[arg-type]

    recorded = teacher(Plain(7))
    assert recorded.architecture == f"{__name__}:Plain"
    again = build(recorded.architecture, 3, 7).eval()
    again.load_state_dict(recorded.module.state_dict())
    images = torch.randn(2, *SHAPE)
    assert torch.equal(again(images), recorded(images))
    assert teacher(Plain(7), architecture="my_pkg:net").architecture == "my_pkg:net"
    assert teacher(Plain(7, "silu")).architecture is None


def test_saving_what_no_command_can_load_warns(tmp_path: Path) -> None:
    for network, expected in ((Plain(7), 0), (Plain(7, "silu"), 1)):
        teacher = Teacher(network, SHAPE, 7, [0.0] * 3, [1.0] * 3)
        student = dynadfq.quantize(teacher, activation_bits=4)
        for model in (teacher, student):
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                model.save(tmp_path)
            told = [one for one in found if "has no import path" in str(one.message)]
            assert len(told) == expected
            assert all(one.filename == __file__ for one in told), "the line that saves"
