"""The data sets that are known by name: what they are and how their pixels are read."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torchvision import datasets

T = TypeVar("T")
Pixels = tuple[Tensor, Tensor]  # (N, C, H, W) uint8 and (N,) int64

DEBIAN_FASHION_MNIST = Path(
    "/usr/share/datasets/fashion-mnist"
)  # Debian's package dataset-fashion-mnist


@dataclass(frozen=True)
class DataCard:
    """What is known of a data set without opening it; mean and deviation are of pixels in 0 … 1, a
    channel each.
    """

    name: str
    channels: int
    size: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Callable[[Path, bool], Pixels]


def read_digits(_root: Path, train: bool) -> Pixels:
    """scikit-learn's handwritten digits, 8×8, 17 grey levels: 1257 to train, 540 to test, always
    the same, by class.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    split = train_test_split(
        bunch.images, bunch.target, test_size=540, random_state=0, stratify=bunch.target
    )
    images, labels = (split[0], split[2]) if train else (split[1], split[3])
    pixels = torch.from_numpy(images * (255.0 / 16.0)).round().to(torch.uint8)
    return pixels[:, None], torch.from_numpy(labels).long()


def read_fashion_mnist(root: Path, train: bool) -> Pixels:
    """Fashion-MNIST, 28×28 grey: 60 000 to train and 10 000 to test."""
    raw = root / "FashionMNIST" / "raw"
    if not raw.exists() and DEBIAN_FASHION_MNIST.exists():
        raw.mkdir(parents=True)
        for packed in sorted(DEBIAN_FASHION_MNIST.glob("*.gz")):
            with gzip.open(packed) as source, open(raw / packed.stem, "wb") as target:
                shutil.copyfileobj(source, target)
    needs = f"the four IDX files (train-images-idx3-ubyte, …) in {raw}"
    dataset = from_disk_or_download(
        "fashion-mnist",
        needs,
        lambda download: datasets.FashionMNIST(str(root), train, download=download),
    )
    return dataset.data[:, None], dataset.targets.long()


def _read_cifar(kind: type[datasets.CIFAR10], archive: str) -> Callable[[Path, bool], Pixels]:
    def read(root: Path, train: bool) -> Pixels:
        needs = f"the archive {archive} in {root}"
        dataset = from_disk_or_download(
            archive, needs, lambda download: kind(str(root), train, download=download)
        )
        return torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(
            dataset.targets
        )

    return read


def from_disk_or_download(name: str, needs: str, make: Callable[[bool], T]) -> T:
    """Open a torchvision data set from disk, or download it."""
    try:
        return make(False)
    except RuntimeError:
        pass
    try:
        return make(True)
    except Exception as error:
        raise FileNotFoundError(
            f"data.root: {name} is not on disk and could not be downloaded ({error}); put {needs} and run again"
        ) from error


DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: off
CIFAR100 = (
    "apple", "aquarium fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple tree", "motorcycle", "mountain", "mouse", "mushroom", "oak tree", "orange",
    "orchid", "otter", "palm tree", "pear", "pickup truck", "pine tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow tree", "wolf", "woman", "worm",
)
# fmt: on

# CIFAR statistics: those of the IntraQ / HAST lineage, so that published checkpoints see the input
# they know.
CARDS = {
    card.name: card
    for card in (
        DataCard("digits", 1, 8, DIGITS, (0.3053,), (0.3763,), read_digits),
        DataCard("fashion-mnist", 1, 28, CLOTHES, (0.2860,), (0.3530,), read_fashion_mnist),
        DataCard(
            "cifar10", 3, 32, CIFAR10, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
            _read_cifar(datasets.CIFAR10, "cifar-10-python.tar.gz"),
        ),
        DataCard(
            "cifar100", 3, 32, CIFAR100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2557, 0.2761),
            _read_cifar(datasets.CIFAR100, "cifar-100-python.tar.gz"),
        ),
    )
}  # fmt: skip
