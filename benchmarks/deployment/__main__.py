"""``python -m benchmarks.deployment NETWORK --data FOLDER``: a row for each quantized file.

Rows go to benchmarks/reports/deployment/NETWORK.csv one by one; those that are there are not
measured again, but a file that was refused is tried again. ``--data`` holds ``val/<class>/`` and,
for real calibration images, ``train/``; without it, these are from ``val`` too.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch

import dynadfq
from benchmarks.deployment.images import KINDS, Images, calibration_images
from benchmarks.deployment.measure import accuracy, classes, times
from benchmarks.deployment.networks import CHECKPOINT, NETWORKS, labelled
from benchmarks.deployment.quantizers import onnxruntime_static, ours
from dynadfq.export.engines import float_onnx, onnx_runner
from dynadfq.runtime.errors import typed_line
from dynadfq.runtime.resume import fingerprint, library_digest

REPORTS = Path("benchmarks/reports/deployment")
QUANTIZERS = (
    "onnxruntime",
    "onnxruntime-float-logits",  # without the last layer
    "dynadfq",
    "dynadfq-uniform",  # --uniform
)
WIDTHS = {"w8a8": (8, 8), "w4a8": (4, 8), "w4a4": (4, 4)}
KEYS = (
    *("calibration", "quantizer", "weights", "activations"),
    *("calibration_images", "precision", "rounding", "teacher"),
)
MEASURED = (
    *(
        "images",
        "top1",
        "float_top1",
        "difference",
        "standard_error",
        "same_class",
    ),
    *("bytes", "of_float", "onnxruntime_1", "onnxruntime_32", "openvino_1", "openvino_32"),
    *("image_seconds", "quantize_seconds", "note"),
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deployment", description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled images")
    parser.add_argument("--classes", type=Path, help="file with the network's class of each folder")
    parser.add_argument("--checkpoint", type=Path, help=CHECKPOINT)
    parser.add_argument("--work", type=Path, default=Path(".scratch/deployment"))
    parser.add_argument("--calibration", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--quantizers", nargs="+", choices=QUANTIZERS, default=QUANTIZERS[:3])
    parser.add_argument("--widths", nargs="+", choices=WIDTHS, default=[*WIDTHS])
    parser.add_argument("--count", type=int, default=64, help="calibration images")
    parser.add_argument("--precision", default="float32", help="of the synthesis")
    parser.add_argument("--rounding", default="squant", help="of weights below 8 bits, in ours")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs; 0 measures no time")
    return parser.parse_args()


def main() -> None:
    """Measure the rows that are missing."""
    asked = arguments()
    torch.set_num_threads(1)
    path = REPORTS / f"{asked.network}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher = NETWORKS[asked.network].teacher(asked.checkpoint)
    own = (str(asked.count), asked.precision, asked.rounding, digest(teacher))
    wanted = {
        (kind, quantizer, *map(str, WIDTHS[widths]), *own): (kind, quantizer, WIDTHS[widths])
        for widths, kind, quantizer in product(asked.widths, asked.calibration, asked.quantizers)
    }
    rows = [row for row in _rows(path) if not (row["note"] and _key(row) in wanted)]
    known = {_key(row) for row in rows}
    missing = [cell for key, cell in wanted.items() if key not in known]
    if not missing:
        return
    bench = Bench(asked, teacher)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*KEYS, *MEASURED], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        for kind, quantizer, widths in missing:
            row = bench.row(kind, quantizer, *widths)
            writer.writerow(row)
            file.flush()
            print(row, flush=True)


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[key] for key in KEYS)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def digest(teacher: dynadfq.Teacher) -> str:
    """Return the first digits of the sha256 of a network's weights."""
    return str(teacher.describe()["sha256"])[:12]


class Bench:
    """One network with its labelled images and its predictions."""

    def __init__(self, asked: argparse.Namespace, teacher: dynadfq.Teacher) -> None:
        self.asked = asked
        self.network = NETWORKS[asked.network]
        self.teacher = teacher
        self.images = labelled(self.teacher, asked.data, "val", asked.classes)
        has_train = (asked.data / "train").is_dir()
        self.real = labelled(
            self.teacher, asked.data, "train" if has_train else "val", asked.classes, asked.count
        )
        made_with = (teacher.describe(), asdict(self.network), asked.count, asked.precision)
        self.work: Path = asked.work / fingerprint(*made_with, library_digest())
        self.work.mkdir(parents=True, exist_ok=True)
        self.float_file = self.work / "float.onnx"
        if not self.float_file.exists():
            self.float_file.write_bytes(float_onnx(self.teacher.module, self.teacher.input_shape))
        answer = onnx_runner(self.float_file.read_bytes(), ("logits",), threads=1)
        self.floats = classes(answer, self.images)

    def row(self, kind: str, quantizer: str, weights: int, activations: int) -> dict[str, Any]:
        """Quantize and measure; a refusal is noted."""
        row: dict[str, Any] = {
            "calibration": kind,
            "quantizer": quantizer,
            "weights": weights,
            "activations": activations,
            "calibration_images": self.asked.count,
            "precision": self.asked.precision,
            "rounding": self.asked.rounding,
            "teacher": digest(self.teacher),
        }
        images = calibration_images(
            kind,
            self.asked.count,
            self.teacher,
            self.network,
            self.real,
            self.work,
            self.asked.precision,
        )
        path = self.work / f"{kind}-{quantizer}-w{weights}a{activations}.onnx"
        start = time.perf_counter()
        try:
            self.quantize(quantizer, images, weights, activations, path)
            seconds = time.perf_counter() - start
            answer = onnx_runner(path.read_bytes(), ("logits",), threads=1, exact=True)
            found = accuracy(classes(answer, self.images), self.floats, self.images.labels)
        except Exception as error:  # whatever a quantizer or an engine refuses is a result
            return row | {"note": typed_line(error)}
        row |= {name: round(value, 2) for name, value in found.items()}
        size = path.stat().st_size
        row |= {"images": len(self.images), "bytes": size}
        row["of_float"] = round(size / self.float_file.stat().st_size, 4)
        row["image_seconds"] = round(images.seconds, 1)
        row["quantize_seconds"] = round(seconds, 1)
        if self.asked.repeats:
            row |= times(path, self.float_file, self.teacher.input_shape, self.asked.repeats)
        return row

    def quantize(
        self, quantizer: str, images: Images, weights: int, activations: int, path: Path
    ) -> None:
        """Write one file."""
        if quantizer.startswith("onnxruntime"):
            float_logits = quantizer == "onnxruntime-float-logits"
            onnxruntime_static(self.teacher, images, weights, activations, float_logits, path)
        else:
            uniform = quantizer == "dynadfq-uniform"
            ours(self.teacher, images, weights, activations, self.asked.rounding, uniform, path)


if __name__ == "__main__":
    main()
