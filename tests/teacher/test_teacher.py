from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.training import accuracy
from dynadfq.zoo.architectures import build


def hooks(module: nn.Module) -> list[int]:
    return [len(part._forward_pre_hooks) + len(part._forward_hooks) for part in module.modules()]


def test_a_recording_holds_what_batch_norms_and_classifier_read(
    teacher: Teacher, images: Tensor
) -> None:
    with teacher.recording() as recording:
        logits = teacher(images[:4])
        layers = [layer for layer, _ in recording.batch_norms]
        assert layers == [
            teacher.module.bn1,
            teacher.module.bn2,
            teacher.module.bn3,
            teacher.module.bn4,
        ]
        assert torch.equal(recording.batch_norms[0][1], teacher.module.conv1(images[:4]))
        assert recording.features is not None
        torch.testing.assert_close(teacher.module.fc(recording.features), logits)
        recording.clear()
        assert not recording.batch_norms and recording.features is None
    assert torch.equal(teacher(images[:4]), logits)


def test_a_recording_leaves_nothing_behind(teacher: Teacher, images: Tensor) -> None:
    before = hooks(teacher.module)
    with pytest.raises(ZeroDivisionError), teacher.recording() as recording:
        teacher(images[:4])
        assert hooks(teacher.module) != before
        raise ZeroDivisionError
    assert hooks(teacher.module) == before
    assert not recording.batch_norms and recording.features is None


def test_facts_have_to_fit_each_other() -> None:
    with pytest.raises(
        ValueError, match=r"mean: \[0\.5\] has 1 values for 3 channels; give one per channel"
    ):
        Teacher(nn.Conv2d(3, 2, 1), (3, 8, 8), 2, (0.5,), (1.0,) * 3)


@pytest.mark.parametrize(("classes", "mean"), [(2, (0.5,)), (7, (0.5,) * 3)])
def test_a_network_that_is_refused_keeps_its_mode(classes: int, mean: tuple[float, ...]) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Dropout().eval(), nn.Flatten()).train()
    module[1].eval()
    with pytest.raises(InvalidArgument):
        Teacher(module, (3, 8, 8), classes, mean, (1.0,) * 3)
    assert [part.training for part in module.modules()] == [True, True, False, True]


def test_features_of_a_classifier_before_the_pooling_are_means() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    teacher = Teacher(module, (3, 8, 8), 2, (0.5,) * 3, (1.0,) * 3)
    images = torch.randn(4, 3, 8, 8)
    with teacher.recording() as recording:
        teacher(images)
        torch.testing.assert_close(recording.features, images.mean(dim=(2, 3)))


def test_synchronized_batch_norms_are_named() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    teacher = Teacher(nn.Sequential(*module, nn.Linear(4, 2)), (3, 8, 8), 2, (0,) * 3, (1,) * 3)
    with (
        teacher.recording() as recording,
        pytest.raises(ValueError, match="its 1 SyncBatchNorm layers only work"),
    ):
        _ = recording.batch_norms


@pytest.mark.parametrize(
    "norm", [nn.Identity(), nn.BatchNorm2d(4, track_running_stats=False), nn.GroupNorm(2, 4)]
)
def test_of_a_network_without_statistics_features_are_recorded(norm: nn.Module) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    teacher = Teacher(module, (3, 8, 8), 2, (0,) * 3, (1,) * 3)
    with teacher.recording() as recording:
        logits = teacher(torch.randn(2, 3, 8, 8))
        assert recording.features is not None and torch.equal(module[4](recording.features), logits)
        with pytest.raises(
            ValueError,
            match="the teacher has no BatchNorm statistics: ",
        ):
            _ = recording.batch_norms


def test_a_teacher_is_frozen_but_images_have_gradients(
    make_net: Callable[[], nn.Module], images: Tensor
) -> None:
    teacher = Teacher(make_net().train(), (3, 8, 8), 6, (0,) * 3, (1,) * 3)
    assert not teacher.module.training and not any(
        p.requires_grad for p in teacher.module.parameters()
    )
    pixels = images[:4].clone().requires_grad_()
    teacher(pixels).sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0


def test_class_names() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert Teacher(module, (3, 8, 8), 2, (0,) * 3, (1,) * 3).class_names == ("0", "1")
    with pytest.raises(ValueError, match="class_names: 3 names for 2 classes"):
        Teacher(module, (3, 8, 8), 2, (0,) * 3, (1,) * 3, ["a", "b", "c"])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    module = build("pytorchcv/resnet20_cifar10", 1)
    teacher = Teacher(
        module,
        (1, 16, 16),
        10,
        (0.3,),
        (0.4,),
        tuple("abcdefghij"),
        "pytorchcv/resnet20_cifar10",
        "here",
        91.5,
    )
    teacher.save(tmp_path / "teacher")
    return tmp_path / "teacher"


def test_saving_and_loading(saved: Path, tmp_path: Path) -> None:
    teacher = load_teacher(saved)
    teacher.save(tmp_path / "again")
    for name in ("model.safetensors", "teacher.json"):
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert (teacher.input_shape, teacher.mean, teacher.float_top1) == ((1, 16, 16), (0.3,), 91.5)
    assert teacher(torch.zeros(2, 1, 16, 16)).shape == (2, 10)


def test_altered_weights_are_refused(saved: Path) -> None:
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not the file that teacher\.json describes"):
        load_teacher(saved)


def test_a_network_without_an_import_path_cannot_be_rebuilt(
    teacher: Teacher, tmp_path: Path
) -> None:
    teacher.architecture = None
    teacher.save(tmp_path)
    assert json.loads((tmp_path / "teacher.json").read_text())["architecture"] is None
    with pytest.raises(ValueError, match="in no zoo and has no import path; build it yourself"):
        load_teacher(tmp_path)


def test_from_a_zoo_with_a_checkpoint(tmp_path: Path) -> None:
    module = build("pytorchcv/resnet20_cifar10")
    torch.save({"state_dict": module.state_dict()}, tmp_path / "resnet20.pth")
    teacher = load_teacher("pytorchcv/resnet20_cifar10", tmp_path / "resnet20.pth")
    assert torch.equal(teacher.class_weights, module.output.weight)
    assert teacher.source.endswith("resnet20.pth") and teacher.input_shape == (3, 32, 32)
    assert load_teacher("pytorchcv/resnet20_cifar10", pretrained=False).source == "random weights"


def test_accuracy_by_hand(teacher: Teacher, images: Tensor) -> None:
    predictions = teacher(images).argmax(dim=1)
    labels = predictions.clone()
    labels[:64] = (labels[:64] + 1) % 6
    assert accuracy(teacher, zip(images.split(100), labels.split(100), strict=True)) == 75.0


@pytest.mark.parametrize(
    "argument",
    [
        {"checkpoint": "weights.pth"},
        {"pretrained": False},
        {"num_classes": 10},
        {"input_shape": (1, 16, 16)},
        {"mean": [0.3]},
        {"std": [0.3]},
        {"class_names": ["a"]},
        {"resize": 20},
        {"interpolation": "bilinear"},
    ],
    ids=lambda argument: next(iter(argument)),
)
def test_a_folder_takes_no_arguments(saved: Path, argument: dict[str, Any]) -> None:
    [name] = argument
    with pytest.raises(
        InvalidArgument, match=f"^{name}: .* given, and the folder .*; leave it out"
    ):
        load_teacher(saved, **argument)


@pytest.mark.parametrize("architecture", ["torchvision/resnet18", "pytorchcv/resnet20_cifar10"])
def test_published_weights_read_the_channels_that_they_were_made_for(architecture: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^input_shape: .* has 1 channels, and"):
        load_teacher(architecture, input_shape=(1, 32, 32), mean=[0.5], std=[0.5])
