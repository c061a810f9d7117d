"""Data sets that are known by name: classes, sizes, normalization, and how pixels are read."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Pixels = tuple[Tensor, Tensor]  # (N, C, H, W) uint8 and (N,) int64

# Where Debian's package dataset-fashion-mnist has its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class DataCard:
    """Facts about a data set that are known before it is opened."""

    name: str  # value of ``data.name``
    channels: int  # of the images; height and width are ``size`` pixels
    size: int
    class_names: tuple[str, ...]  # in the order of labels
    mean: tuple[float, ...]  # one value per channel, of pixels in 0 … 1
    std: tuple[float, ...]
    # Returns the pixels of the training or evaluation part, given the folder of files.
    read: Callable[[Path, bool], Pixels]


def read_digits(_root: Path, train: bool) -> Pixels:
    """Return scikit-learn's handwritten digits, 8×8 with 17 grey levels.

    The split is fixed and stratified by class: 1257 images to train, 540 to test.
    """
    # Imported here: scikit-learn takes two seconds, and only these digits need it.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=540, random_state=0, stratify=digits.target
    )
    images = train_images if train else test_images
    labels = train_labels if train else test_labels
    pixels = torch.from_numpy(images * (255.0 / 16.0)).round().to(torch.uint8)
    return pixels[:, None], torch.from_numpy(labels).long()


def read_fashion_mnist(root: Path, train: bool) -> Pixels:
    """Return Fashion-MNIST, 28×28 grey: 60 000 images to train and 10 000 to test."""
    raw = root / "FashionMNIST" / "raw"
    if not raw.exists() and DEBIAN_FASHION_MNIST.exists():
        raw.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw.parent) as unfinished:
            unpacked = Path(unfinished) / raw.name
            unpacked.mkdir()
            for packed in sorted(DEBIAN_FASHION_MNIST.glob("*.gz")):
                with gzip.open(packed) as source, open(unpacked / packed.stem, "wb") as target:
                    shutil.copyfileobj(source, target)
            unpacked.rename(raw)
    from torchvision.datasets import FashionMNIST

    dataset = from_disk_or_download(
        "fashion-mnist",
        f"the four IDX files (train-images-idx3-ubyte, …) in {raw}",
        lambda download: FashionMNIST(str(root), train, download=download),
    )
    return dataset.data[:, None], dataset.targets.long()


def _read_cifar(name: str, root: Path, train: bool) -> Pixels:
    from torchvision import datasets

    kind = getattr(datasets, name)
    dataset = from_disk_or_download(
        kind.filename,
        f"the archive {kind.filename} in {root}",
        lambda download: kind(str(root), train, download=download),
    )
    pixels = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(dataset.targets)


def from_disk_or_download(name: str, needs: str, make: Callable[[bool], T]) -> T:
    """Open a torchvision data set from disk, or download it.

    Args:
        name: for the error message.
        needs: the files to put where, for the error message.
        make: opens the data set; its argument allows the download.

    Raises:
        FileNotFoundError: it is not on disk and cannot be downloaded.
    """
    try:
        return make(False)
    except RuntimeError:  # torchvision's error for missing files
        pass
    try:
        return make(True)
    except Exception as error:  # of any download client
        raise FileNotFoundError(
            f"root: {name} is not on disk and could not be downloaded ({error}); "
            f"put {needs} and run again"
        ) from error


DIGITS = tuple("0123456789")
# fmt: off
CLOTHES = (
    "T-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = (
    "apple", "aquarium fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple tree", "motorcycle", "mountain", "mouse", "mushroom", "oak tree", "orange", "orchid",
    "otter", "palm tree", "pear", "pickup truck", "pine tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow tree", "wolf", "woman",
    "worm",
)
# fmt: on

# Statistics of CIFAR are those of IntraQ and HAST. pytorchcv's weights come with their own
# (`zoo.families.pytorchcv`).
CARDS = {
    card.name: card
    for card in (
        DataCard("digits", 1, 8, DIGITS, (0.3053,), (0.3763,), read_digits),
        DataCard("fashion-mnist", 1, 28, CLOTHES, (0.2860,), (0.3530,), read_fashion_mnist),
        DataCard(
            "cifar10",
            3,
            32,
            CIFAR10,
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            partial(_read_cifar, "CIFAR10"),
        ),
        DataCard(
            "cifar100",
            3,
            32,
            CIFAR100,
            (0.5071, 0.4867, 0.4408),
            (0.2675, 0.2557, 0.2761),
            partial(_read_cifar, "CIFAR100"),
        ),
    )
}
