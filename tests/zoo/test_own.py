"""A user's own network by import path: built, saved, loaded, and what is said where that fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import dynadfq
from dynadfq.data.config import DataConfig
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.build import load_student
from dynadfq.teacher.config import TeacherConfig
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from dynadfq.zoo.architectures import build
from stages.teacher import TeacherParams, make

CODE = '''
from os import abort

import torch
from torch import nn


class Net(nn.Sequential):
    """Takes what the pipeline offers."""

    def __init__(self, in_channels, num_classes=4, width=8):
        super().__init__(
            nn.Conv2d(in_channels, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
        )


def fixed():
    """A network with weights of its own."""
    torch.manual_seed(3)
    return Net(3, 4)


def anything(**arguments):
    return Net(**arguments)


def greedy(path, in_channels):
    pass


def text():
    return "net"


class Nested:
    build = Net


class Plain:
    pass


number = 3
'''
SHAPE = (3, 12, 12)
KNOWN = {"input_shape": SHAPE, "num_classes": 4, "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's on the path."""
    (tmp_path / "users_networks.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "users_networks", raising=False)
    return "users_networks"


def test_what_params_yaml_says_of_a_network_is_what_its_teacher_has(
    networks: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: dict[str, Any] = {
        **KNOWN,
        "class_names": ("ant", "bee", "cat", "dog"),
        "resize": 14,
        "interpolation": "bicubic",
    }
    config = TeacherConfig(architecture=f"{networks}:fixed", **said)
    make(TeacherParams(seed=0, device="cpu", data=DataConfig(name=None), teacher=config), tmp_path)
    teacher = load_teacher(tmp_path, trust=[f"{networks}:fixed"])
    assert said == {
        name: getattr(teacher, name, None) or getattr(teacher.preprocessing, name) for name in said
    }
    assert capsys.readouterr().out.count(": params.yaml\n") == len(said)


@pytest.mark.parametrize("name", ["Net", "anything", "Nested.build"])
def test_it_is_called_with_what_it_takes(networks: str, name: str) -> None:
    network = build(f"{networks}:{name}", in_channels=1, num_classes=7)
    assert network(torch.zeros(2, 1, 12, 12)).shape == (2, 7)


def test_its_own_weights_are_kept_where_there_is_no_checkpoint(
    networks: str, tmp_path: Path
) -> None:
    teacher = load_teacher(f"{networks}:fixed", **KNOWN)
    assert torch.equal(teacher.module[0].weight, build(f"{networks}:fixed")[0].weight)
    assert teacher.source == f"weights as {networks}:fixed returns them"
    other = build(f"{networks}:Net", num_classes=4)
    safetensors.torch.save_file(other.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_teacher(f"{networks}:fixed", tmp_path / "weights.safetensors", **KNOWN)
    assert torch.equal(loaded.module[0].weight, other[0].weight)


def test_teacher_and_student_are_loaded_again(networks: str, tmp_path: Path) -> None:
    teacher = load_teacher(f"{networks}:fixed", **KNOWN)
    teacher.module[0].weight.data.mul_(2)
    images = torch.randn(4, *SHAPE)
    student = dynadfq.quantize(teacher, activation_bits=4)
    calibrate(student, [images], extremes)
    teacher.save(tmp_path / "teacher")
    student.save(tmp_path / "student")
    trust = (f"{networks}:fixed",)
    assert torch.equal(load_teacher(tmp_path / "teacher", trust=trust)(images), teacher(images))
    assert torch.equal(load_student(tmp_path / "student", trust=trust)(images), student(images))


def test_a_module_from_python_may_name_its_import_path(networks: str, tmp_path: Path) -> None:
    module = build(f"{networks}:Net", num_classes=4)
    Teacher(module, **KNOWN, architecture=f"{networks}:Net").save(tmp_path / "teacher")
    again = load_teacher(tmp_path / "teacher", trust=f"{networks}:Net")
    assert torch.equal(again.module[0].weight, module[0].weight)


def test_from_another_folder_the_message_says_what_belongs_on_the_path(
    networks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = load_teacher(f"{networks}:fixed", **KNOWN)
    student = dynadfq.quantize(teacher, activation_bits=4)
    teacher.save(tmp_path / "teacher")
    student.save(tmp_path / "student")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    monkeypatch.delitem(sys.modules, networks)
    for load, folder in ((load_teacher, "teacher"), (load_student, "student")):
        with pytest.raises(ImportError) as error:
            load(tmp_path / folder, trust=(f"{networks}:fixed",))
        assert "No module named 'users_networks'" in str(error.value)
        assert str(error.value).endswith(
            "on PYTHONPATH: PYTHONPATH=/folder/that/holds/users_networks"
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "cannot be imported (module 'users_networks' has no attribute 'nothing')"),
        ("Plain", "not a torch.nn.Module or a function that returns one"),
        ("abort", "not a torch.nn.Module or a function that returns one"),
        ("number", "is int, not a function or class that returns a network"),
        ("text", "returned str, not a torch.nn.Module"),
        (
            "greedy",
            "is called with in_channels and num_classes at most (missing a required arg",
        ),
    ],
)
def test_what_builds_no_network(networks: str, name: str, message: str) -> None:
    with pytest.raises((ImportError, ValueError)) as error:
        build(f"{networks}:{name}")
    assert str(error.value).startswith(f"architecture: '{networks}:{name}' ") and message in str(
        error.value
    )


def test_facts_of_ones_own_network_have_to_be_given(networks: str) -> None:
    with pytest.raises(ValueError, match=r"^input_shape, num_classes: not given"):
        load_teacher(f"{networks}:Net")


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            {"num_classes": 9},
            "num_classes: the network returns (2, 4) for two images, not 9 logits",
        ),
        (
            {"input_shape": (1, 12, 12)},
            "input_shape: the network cannot read 1 × 12 × 12 images",
        ),
        (
            {"input_shape": (3, 2, 2)},
            "input_shape: the network cannot read 3 × 2 × 2 images",
        ),
    ],
)
def test_a_network_that_is_no_such_classifier(
    networks: str, known: dict[str, object], message: str
) -> None:
    given = KNOWN | known
    given |= {name: given[name][: given["input_shape"][0]] for name in ("mean", "std")}  # type: ignore[index]
    with pytest.raises(ValueError) as error:
        load_teacher(f"{networks}:fixed", **given)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
