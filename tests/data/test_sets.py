from __future__ import annotations

import gzip
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from torchvision import datasets

from dynadfq.data import sets
from dynadfq.data.loading import load
from dynadfq.data.sets import CARDS
from dynadfq.ops.preprocess import Preprocessing

RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    """The IDX format of MNIST."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


FASHION = {
    split: (RNG.integers(0, 256, (count, 28, 28)), RNG.integers(0, 10, count))
    for split, count in [("train", 9), ("t10k", 5)]
}
FASHION_FILES = {
    f"{split}-{kind}": idx(array)
    for split, arrays in FASHION.items()
    for kind, array in zip(("images-idx3-ubyte", "labels-idx1-ubyte"), arrays, strict=True)
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    for module in (datasets.mnist, datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)
    monkeypatch.setattr(sets, "DEBIAN_FASHION_MNIST", tmp_path / "not-installed")


def test_digits_are_split_by_class_once_and_for_all() -> None:
    train, test = load("digits", train=True), load("digits")
    assert (len(train), len(test)) == (1257, 540)
    assert train.pixels.dtype == torch.uint8 and train.input_shape == test.input_shape == (1, 8, 8)
    counts = torch.stack([train.labels.bincount(), test.labels.bincount()])
    assert counts.shape == (2, 10)
    share = counts[1] / counts.sum(dim=0)
    assert (share - 540 / 1797).abs().max() < 0.01
    assert torch.equal(load("digits").pixels, test.pixels) and test.pixels.max() == 255
    everything = torch.cat([train.pixels, test.pixels]).flatten(1)
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().data * 255 / 16).round().byte()
    assert {tuple(row) for row in everything.tolist()} == {tuple(row) for row in original.tolist()}


def test_a_class_file_numbers_the_classes_of_a_known_set(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(map(str, reversed(range(10)))))
    names = [str(number) for number in range(10)]
    found = load("digits", class_names=names, class_file=path)
    assert torch.equal(found.labels, 9 - load("digits").labels)
    path.write_text("zero\none\n")
    with pytest.raises(ValueError, match="class_file: it lacks 10 classes of the data set: 0, 1"):
        load("digits", class_names=names, class_file=path)


def test_normalized_digits_have_mean_zero_and_deviation_one() -> None:
    data = load("digits", train=True)
    batches = list(data.batches(200))
    assert [len(labels) for _, labels in batches] == [200] * 6 + [57]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)
    assert images.mean().abs() < 0.01 and (images.std() - 1).abs() < 0.01
    expected = (data.pixels[3, 0, 4, 4] / 255 - CARDS["digits"].mean[0]) / CARDS["digits"].std[0]
    assert images[3, 0, 4, 4].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("size", [4, 8, 16])
def test_images_are_resized_to_pixels(size: int) -> None:
    card = CARDS["digits"]
    data = load("digits", preprocessing=Preprocessing((1, size, size), card.mean, card.std))
    assert data.input_shape == (1, size, size) and data.pixels.dtype == torch.uint8
    assert abs(data.pixels.float().mean() - load("digits").pixels.float().mean()) < 5


@pytest.mark.parametrize("train", [True, False])
def test_fashion_mnist_from_its_files(tmp_path: Path, train: bool) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in FASHION_FILES.items():
        (raw / name).write_bytes(content)
    data = load("fashion-mnist", tmp_path, train)
    pixels, labels = FASHION["train" if train else "t10k"]
    assert data.input_shape == (1, 28, 28)
    assert data.pixels[:, 0].tolist() == pixels.tolist() and data.labels.tolist() == labels.tolist()
    assert data.labels.dtype == torch.int64


@pytest.fixture
def _debian_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    for name, content in FASHION_FILES.items():
        (package / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(sets, "DEBIAN_FASHION_MNIST", package)


@pytest.mark.usefixtures("_debian_package")
def test_fashion_mnist_from_debians_package(tmp_path: Path) -> None:
    assert len(load("fashion-mnist", tmp_path / "data")) == 5
    assert len(load("fashion-mnist", tmp_path / "data", train=True)) == 9


@pytest.mark.usefixtures("_debian_package")
def test_unpacking_that_was_killed_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copied = shutil.copyfileobj, []

    def killed(*streams: IO[bytes]) -> None:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(copy(*streams))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copyfileobj", killed)
        load("fashion-mnist", tmp_path / "data")
    assert len(load("fashion-mnist", tmp_path / "data")) == 5


@pytest.mark.parametrize(("name", "key"), [("cifar10", b"labels"), ("cifar100", b"fine_labels")])
def test_cifar_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: bytes
) -> None:
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    monkeypatch.setattr(
        datasets.cifar, "check_integrity", lambda path, _md5=None: os.path.exists(path)
    )
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    pixels, labels = {}, {}
    for file, _ in [*kind.train_list, *kind.test_list]:
        pixels[file] = RNG.integers(0, 256, (3, 3072), dtype=np.uint8)
        labels[file] = RNG.integers(0, len(CARDS[name].class_names), 3).tolist()
        entry = {"data": pixels[file], key.decode(): labels[file]}
        (folder / file).write_bytes(pickle.dumps(entry))
    meta = {kind.meta["key"]: list(CARDS[name].class_names)}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
    for train, files in [(True, kind.train_list), (False, kind.test_list)]:
        data = load(name, tmp_path, train)
        expected = np.concatenate([pixels[file] for file, _ in files]).reshape(-1, 3, 32, 32)
        assert (
            data.pixels.dtype == torch.uint8 and data.pixels.numpy().tolist() == expected.tolist()
        )
        assert data.labels.tolist() == [label for file, _ in files for label in labels[file]]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (
            "fashion-mnist",
            r"put the four IDX files \(train-images.*\) in .*FashionMNIST/raw and run again",
        ),
        ("cifar10", r"put the archive cifar-10-python\.tar\.gz in .* and run again"),
        ("cifar100", r"put the archive cifar-100-python\.tar\.gz in .* and run again"),
    ],
)
def test_missing_files_are_named(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"root: .* could not be downloaded \(.*\); {what}"
    ):
        load(name, tmp_path)


def test_a_damaged_package_does_not_pass_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(sets, "DEBIAN_FASHION_MNIST", package)
    with pytest.raises(FileNotFoundError, match="put the four IDX files"):
        load("fashion-mnist", tmp_path)


def test_cards_are_consistent() -> None:
    for name, card in CARDS.items():
        assert card.name == name and len(card.mean) == len(card.std) == card.channels
        assert len(set(card.class_names)) == len(card.class_names)
    assert [len(card.class_names) for card in CARDS.values()] == [10, 10, 10, 100]
    assert (CARDS["cifar100"].class_names[0], CARDS["cifar100"].class_names[-1]) == (
        "apple",
        "worm",
    )


def test_reading_parameters_does_not_import_torchvision() -> None:
    """It takes two seconds, and every stage reads the settings of the data and of all methods."""
    code = "import sys, dynadfq.params; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
