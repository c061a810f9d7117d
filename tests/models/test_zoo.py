from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from dynadfq.models.classifier import class_weights, find_classifier
from dynadfq.models.zoo import build


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "'resnet18' is not <family>/<model>; families: pytorchcv, torchvision, timm, efficientnet"),
        ("keras/resnet18", "'keras/resnet18' is not <family>/<model>"),
        ("torchvision/", "is not <family>/<model>"),
        ("torchvision/resnet19", "torchvision has no model 'resnet19'; did you mean resnet1"),
        ("pytorchcv/resnet20_cifar11", "pytorchcv has no model 'resnet20_cifar11'; did you mean resnet20_cifar10"),
        ("torchvision/qqqqqq", "torchvision has no model 'qqqqqq'"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(name)
    assert message in str(error.value) and str(error.value).startswith("teacher.architecture: ")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match="'timm/resnet18' needs the package timm: pip install timm"):
        build("timm/resnet18")


@pytest.mark.parametrize(
    ("name", "classes"),
    [("pytorchcv/resnet20_cifar10", 100), ("torchvision/resnet18", 7), ("pytorchcv/mobilenetv2_w1", 7)],
)
@pytest.mark.parametrize("size", [16, 32])
def test_channels_classes_and_sizes(name: str, classes: int, size: int) -> None:
    module = build(name, in_channels=1, num_classes=classes).eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 1, size, size)).shape == (2, classes)
    assert len(class_weights(module, classes)) == classes


def test_classes_a_network_is_not_made_for() -> None:
    with pytest.raises(ValueError, match="pytorchcv/resnet20_cifar10 cannot be built for 7 classes"):
        build("pytorchcv/resnet20_cifar10", num_classes=7)


def test_averaging_the_whole_map_is_the_same_at_the_original_size() -> None:
    from pytorchcv.model_provider import get_model

    ours, theirs = build("pytorchcv/resnet20_cifar10").eval(), get_model("resnet20_cifar10").eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)


def test_the_classifier_is_the_last_layer_with_an_output_a_class() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.Conv2d(3, 6, 3))
    assert find_classifier(module, 6) is module[1]
    convolution = nn.Sequential(nn.Linear(4, 6), nn.Conv2d(5, 6, 1))
    assert find_classifier(convolution, 6) is convolution[1]
    assert torch.equal(class_weights(convolution, 6), convolution[1].weight.detach()[:, :, 0, 0])
    with pytest.raises(ValueError, match="no linear layer or 1×1 convolution with 5 outputs"):
        find_classifier(module, 5)
