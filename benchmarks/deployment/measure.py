"""Accuracy, agreement, size and time of an ONNX file beside the float network."""

from __future__ import annotations

from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynadfq.data.labelled import LabelledSet
from dynadfq.export.engines import Answer, onnx_runner, openvino_runner
from dynadfq.runtime.timing import interleaved

BATCH = 50  # images at a time, where classes are compared
TIMED = (1, 32)  # images at a time, where time is measured


def classes(answer: Answer, images: LabelledSet) -> Tensor:
    """Return the (N,) predicted classes."""
    return torch.cat([answer(batch)[0].argmax(dim=1) for batch, _ in images.batches(BATCH)])


def accuracy(found: Tensor, floats: Tensor, labels: Tensor) -> dict[str, float]:
    """Return percent right, of both, their paired difference with its standard error, agreement.

    Args:
        found: (N,) classes of the file.
        floats: (N,) classes of the float network.
        labels: (N,) right classes.

    >>> accuracy(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 0]), torch.zeros(4))
    {'top1': 50.0, 'float_top1': 75.0, 'difference': -25.0, 'standard_error': 25.0, \
'same_class': 75.0}
    """
    right, before = (found == labels).double(), (floats == labels).double()
    change = right - before
    return {
        "top1": 100 * float(right.mean()),
        "float_top1": 100 * float(before.mean()),
        "difference": 100 * float(change.mean()),
        "standard_error": 100 * float(change.std()) / sqrt(len(labels)),
        "same_class": 100 * float((found == floats).double().mean()),
    }


def times(path: Path, float_path: Path, shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Return the time of a file relative to the float network's in the same engine.

    Both are medians of interleaved runs.

    One thread; the engines are onnxruntime and, where it is installed, OpenVINO.
    """
    model, floats = path.read_bytes(), float_path.read_bytes()
    pairs = {
        "onnxruntime": tuple(onnx_runner(m, ("logits",), threads=1) for m in (model, floats)),
        "openvino": tuple(openvino_runner(m, threads=1) for m in (model, floats)),
    }
    found: dict[str, Any] = {}
    for engine, (file, whole) in pairs.items():
        for batch in TIMED:
            images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
            name = f"{engine}_{batch}"
            if file is None or whole is None:
                found[name] = None
                continue
            calls = {"file": partial(file, images), "float": partial(whole, images)}
            result = interleaved(calls, repeats)
            found[name] = round(result["file"].median / result["float"].median, 3)
    return found
