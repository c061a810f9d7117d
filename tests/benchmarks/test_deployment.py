"""The table of quantized files: its figures by hand, rows that are measured once, and refusals."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import pytest
import torch

from benchmarks.deployment import __main__ as deployment
from benchmarks.deployment.images import Images
from benchmarks.deployment.measure import accuracy, classes
from benchmarks.deployment.quantizers import Reader
from dynadfq.data.labelled import LabelledSet
from dynadfq.ops.preprocess import Preprocessing


def test_accuracy_by_hand() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    found = accuracy(torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 2, 0]), labels)
    assert (found["top1"], found["float_top1"], found["same_class"]) == (50, 50, 50)
    assert found["difference"] == 0
    assert found["standard_error"] == pytest.approx(100 * (2 / 3) ** 0.5 / 2)  # of 0, 1, -1, 0


def test_images_are_read_in_order_and_no_further() -> None:
    pixels = torch.arange(5.0).view(5, 1, 1, 1)
    images = Images(pixels, 0.0)
    sizes = [len(batch.images) for batch in images.batches(2, 3)]
    assert sizes == [2, 1] and torch.equal(
        images.take(torch.tensor([3, 1])).images.flatten(), torch.tensor([3.0, 1.0])
    )
    reader = Reader(images)
    read = [reader.get_next() for _ in range(6)]
    assert [None if one is None else one["images"].item() for one in read] == [0, 1, 2, 3, 4, None]


def test_classes_of_all_images() -> None:
    pixels = torch.randint(0, 256, (120, 3, 4, 4), dtype=torch.uint8)
    preprocessing = Preprocessing((3, 4, 4), (0.0,) * 3, (1.0,) * 3)
    images = LabelledSet(preprocessing, pixels, torch.zeros(120, dtype=torch.int64))
    found = classes(lambda x: (x.mean((2, 3)),), images)
    assert torch.equal(found, (pixels.float() / 255).mean((2, 3)).argmax(dim=1))


class Bench(deployment.Bench):
    """Without a network: every quantizer refuses 4-bit activations; other rows have no figures."""

    made: ClassVar[list[str]] = []  # files that were begun

    def __init__(self, asked: Any, teacher: Any) -> None:
        self.asked = asked
        self.work = asked.work
        self.teacher = teacher
        self.network = self.real = None  # type: ignore[assignment]
        self.images = SimpleNamespace(labels=torch.tensor([0, 1]), __len__=lambda: 2)  # type: ignore[assignment]
        self.floats = torch.tensor([0, 1])

    def row(self, kind: str, quantizer: str, weights: int, activations: int) -> dict[str, Any]:
        self.made.append(f"{kind}-{quantizer}-w{weights}a{activations}")
        found = super().row(kind, quantizer, weights, activations)
        return found if activations == 4 else found | {"note": "", "top1": 50.0}

    def quantize(self, quantizer: str, *_: Any) -> None:
        raise NotImplementedError("no such widths\nsecond line")


class Network(NamedTuple):
    """Weights that are known by their digest."""

    sha256: str

    def teacher(self, checkpoint: Path | None) -> Any:
        return SimpleNamespace(describe=lambda: {"sha256": checkpoint or self.sha256})


def test_rows_are_measured_once_and_refused_ones_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deployment, "Bench", Bench)
    monkeypatch.setattr(Bench, "made", [])
    monkeypatch.setitem(deployment.NETWORKS, "resnet20-cifar100", Network("ab" * 32))
    monkeypatch.setattr(deployment, "REPORTS", tmp_path)
    monkeypatch.setattr(deployment, "calibration_images", lambda *_: Images(torch.zeros(1), 0.0))
    words = ["x", "resnet20-cifar100", "--data", str(tmp_path), "--work", str(tmp_path)]
    for kinds in (["noise"], ["noise", "real"], ["noise", "real"]):
        monkeypatch.setattr("sys.argv", [*words, "--calibration", *kinds])
        deployment.main()
    times = Counter(Bench.made)
    assert len(times) == 18
    for name, count in times.items():
        assert count == (1 if name.endswith("a8") else 3 if name.startswith("noise") else 2)
    for other in (["--count", "32"], ["--precision", "bfloat16"], ["--checkpoint", "cd" * 32]):
        monkeypatch.setattr(
            "sys.argv", [*words, "--calibration", "real", "--widths", "w8a8", *other]
        )
        deployment.main()
    with (tmp_path / "resnet20-cifar100.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["calibration"] for row in rows) == {"noise": 9, "real": 9 + 3 * 3}
    refused = [row["activations"] for row in rows if row["note"]]
    assert refused == ["4"] * 6 and not any(row["top1"] for row in rows if row["note"])
    assert {row["note"] for row in rows} == {"", "NotImplementedError: no such widths"}
    assert len({tuple(row[key] for key in deployment.KEYS) for row in rows}) == len(rows)
