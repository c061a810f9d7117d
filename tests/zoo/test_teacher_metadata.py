"""What a teacher reads and tells apart: who is believed, and what is said when nobody knows."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from dynadfq.zoo.metadata import Metadata
from dynadfq.zoo.teacher_metadata import resolve, teacher_metadata

CIFAR = Metadata(
    "data set cifar10", (3, 32, 32), 10, (0.5,) * 3, (0.25,) * 3, class_names=tuple("abcdefghij")
)
NOTHING = Metadata("params.yaml")
IMAGENET: dict[str, Any] = {
    "input_shape": (3, 224, 224),
    "mean": (0.4,) * 3,
    "std": (0.2,) * 3,
    "resize": 256,
}
LIBRARY = Metadata("library", num_classes=1000, interpolation="bicubic", **IMAGENET)


def test_each_fact_is_the_first_that_is_known() -> None:
    given, first, second = (Metadata(name) for name in ("given", "first", "second"))
    for who in product([False, True], repeat=3):
        for name, value in (("num_classes", 10), ("mean", (0.5,) * 3), ("std", (0.3,) * 3)):
            sources = [
                Metadata(source.origin, **({name: value} if knows else {}))
                for source, knows in zip((given, first, second), who, strict=True)
            ]
            facts = resolve(sources[0], [*sources[1:], LIBRARY])
            knowing = [source.origin for source, knows in zip(sources, who, strict=True) if knows]
            assert facts.origins[name] == [*knowing, "library"][0]
            assert getattr(facts, name) == (value if knowing else getattr(LIBRARY, name))


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ValueError) as error:
        resolve(NOTHING, [Metadata("data set pets", num_classes=37), Metadata("my library")])
    assert str(error.value) == (
        "input_shape, mean, std: not given nor known from data set pets or my library; write "
        "what the network was trained with"
    )
    with pytest.raises(ValueError, match=r"^input_shape, num_classes, .*std: not given; write"):
        resolve(NOTHING, [])
    unnormalized = Metadata("no values of a source", mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(ValueError, match=r"^input_shape, num_classes: not given; write"):
        resolve(NOTHING, [], unnormalized)
    assert resolve(NOTHING, [LIBRARY], unnormalized).mean == LIBRARY.mean


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"std": (0.0, 1.0, 1.0)}, r"^std\[0\]: must be greater than 0; got 0\.0$"),
        ({"mean": (float("nan"), 0.5, 0.5)}, r"^mean\[0\]: must be a finite number; got NaN$"),
        ({"resize": 0}, "^resize: must be greater than or equal to 1; got 0$"),
    ],
)
def test_a_value_out_of_bounds_is_said_in_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(Metadata("as given", **values), [LIBRARY])


def test_scaling_follows_the_size() -> None:
    assert (
        resolve(NOTHING, [LIBRARY, CIFAR]).resize == 256
        and resolve(NOTHING, [CIFAR, LIBRARY]).resize is None
    )
    assert resolve(NOTHING, [CIFAR, LIBRARY]).interpolation == "bilinear"
    half = resolve(Metadata("as given", (3, 112, 112)), [LIBRARY])
    assert (half.resize, half.interpolation) == (128, "bicubic")
    assert half.origins["resize"] == "library, 256 for 224, in proportion"
    own = resolve(Metadata("as given", resize=300, interpolation="nearest"), [LIBRARY])
    assert (own.resize, own.interpolation, own.origins["resize"]) == (300, "nearest", "as given")


def test_statistics_of_other_channels_are_passed_over_unless_they_are_given() -> None:
    grey = Metadata("grey", mean=(0.1,), std=(0.2,))
    assert resolve(Metadata("as given", (1, 28, 28)), [LIBRARY, grey]).mean == (0.1,)
    with pytest.raises(ValueError, match=r"mean: \[0\.1\] has 1 values for 3 channels"):
        resolve(Metadata("as given", mean=(0.1,)), [LIBRARY])


def test_names_are_those_of_as_many_classes() -> None:
    assert resolve(NOTHING, [LIBRARY, CIFAR]).class_names is None
    assert (
        resolve(NOTHING, [LIBRARY, CIFAR]).origins["class_names"]
        == "numbers, since no names are known"
    )
    assert (
        resolve(Metadata("as given", num_classes=10), [LIBRARY, CIFAR]).class_names
        == CIFAR.class_names
    )


def test_a_fact_is_shown_with_its_origin() -> None:
    lines = resolve(NOTHING, [CIFAR]).lines()
    assert lines[0] == "input_shape 3, 32, 32: data set cifar10"
    assert lines[2:4] == [
        "class_names a, b, c, … (10): data set cifar10",
        "mean 0.5, 0.5, 0.5: data set cifar10",
    ]
    assert lines[-2] == "resize none: data set cifar10"


RESNET18 = "torchvision/resnet18"


def test_published_weights_are_the_librarys_and_others_the_data_sets() -> None:
    published = teacher_metadata(RESNET18, NOTHING, None, published_weights=True)
    assert (published.num_classes, published.input_shape, published.resize) == (
        1000,
        (3, 224, 224),
        256,
    )
    assert published.origins["mean"] == "torchvision's metadata (IMAGENET1K_V1)"
    assert published.class_names is not None and published.class_names[0] == "tench"
    own = teacher_metadata(RESNET18, NOTHING, CIFAR, published_weights=False)
    assert own.mean == CIFAR.mean and set(own.origins.values()) == {CIFAR.origin}
    assert teacher_metadata("pytorchcv/resnet20_cifar10", NOTHING, CIFAR, True).mean == (
        0.4914,
        0.4822,
        0.4465,
    )
    assert (
        teacher_metadata("pytorchcv/resnet20_cifar10", NOTHING, CIFAR, True).class_names
        == CIFAR.class_names
    )


def test_a_checkpoint_without_a_data_set_has_the_librarys_preprocessing() -> None:
    folder = Metadata("data set image-folder")
    assert teacher_metadata(RESNET18, NOTHING, folder, False).resize == 256


def test_a_data_set_with_other_classes_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"data_set: data set cifar10 has 10 classes and the teacher 1000 \(torchv",
    ):
        teacher_metadata(RESNET18, NOTHING, CIFAR, published_weights=True)


def test_data_image_size_replaces_the_size_alone() -> None:
    facts = teacher_metadata(RESNET18, NOTHING, CIFAR, False, image_size=64)
    assert facts.input_shape == (3, 64, 64) and facts.mean == CIFAR.mean and facts.resize is None
    given = Metadata("params.yaml", (3, 48, 48))
    assert teacher_metadata(RESNET18, given, CIFAR, False, image_size=64).input_shape == (3, 48, 48)


def test_a_network_of_ones_own_knows_nothing() -> None:
    with pytest.raises(ValueError, match=r"input_shape, .*: not given; write what"):
        teacher_metadata("my_pkg.models:build", NOTHING, None, published_weights=True)
