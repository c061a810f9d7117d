"""The files of an evaluation and an export, as those stages write them, with made-up numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMPARED = {"bit_flops_percent": 2.6, "difference": 0.1, "standard_error": 0.2}
COMPARED |= {"p_value": 1.0}
METRICS: dict[str, Any] = {  # with no key that may be left out
    "format": "dynadfq-metrics/2",
    "method": "dynadfq",
    "teacher": {"bit_flops_percent": 100.0},
    "fixed": COMPARED,
    "student": {"bit_flops_percent": 2.6},
    "control": COMPARED | {"repeats": 5},
    "quantization": {
        "weight_bits": 4,
        "activation_bits": [3, 4, 5],
        "float_input_macs_percent": 1.1,
    },
    "data": {"name": None},
    "synthetic": {
        "num_images": 8,
        "one_hot_images": 4,
        "one_hot_recognized": 98.3,
        "gate": 90.0,
    },
}
EXPORT: dict[str, Any] = {
    "format": "dynadfq-export/1",
    "float_bytes": 1000,
    "packed_bytes": 180,
    "files": [
        {
            "format": "onnx-codes",
            "bytes": 900,
            "opset": 18,
            "images_checked": 8,
            "worst_logit_difference": 1e-6,
            "not_integer": ["pool: mean"],
            "versions": {"torch": "2.6.0"},
        }
    ],
}
TABLES = (
    "evaluation/per_image.csv",
    "evaluation/synthetic_per_image.csv",
    "evaluation/budget_curve.csv",
    "evaluation/sites.csv",
    "student/history.csv",
    "fixed/history.csv",
)


def write_measured(folder: Path) -> None:
    """Write both records, and the tables that are read with them."""
    for name, content in (("evaluation/metrics", METRICS), ("export/export", EXPORT)):
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2))
    for name in TABLES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x\n1\n")
