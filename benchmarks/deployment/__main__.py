"""``python -m benchmarks.deployment STUDENT``: sizes, agreement and times of one student, to
benchmarks/reports/.

Images for the agreement are those of a labelled set (``--data``), of a synthetic one
(``--synthetic``), or noise.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.deployment.agreement import agreements
from benchmarks.deployment.forms import INTEGER_FORM, Forms, forms
from benchmarks.deployment.markdown import page
from benchmarks.deployment.sizes import sizes
from benchmarks.deployment.times import REFERENCE, times
from dynadfq.data import loading as data
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.zoo.architectures import build

REPORTS = Path("benchmarks/reports/deployment")
BATCH = 100  # images at a time, where forms are compared
CHECKED = 16  # images that exports are checked on


def images_of(asked: argparse.Namespace, student: Student) -> Iterator[Tensor]:
    """Yield normalized (B, C, H, W) batches of the requested images."""
    if asked.data is not None:
        found = data.load(asked.data, asked.root, False, student.preprocessing, count=asked.images)
        yield from (batch for batch, _ in found.batches(BATCH))
    elif asked.synthetic is not None:
        yield from (
            batch.images for batch in SyntheticSet(asked.synthetic).batches(BATCH, asked.images)
        )
    else:
        rng = torch.Generator().manual_seed(0)
        for start in range(0, asked.images or BATCH, BATCH):
            size = min(BATCH, (asked.images or BATCH) - start)
            yield torch.randn(size, *student.cost.trace.input_shape, generator=rng)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Return all measurements, as values for JSON."""
    student = load_student(asked.student).eval()
    known, shape = student.description, student.cost.trace.input_shape
    # Its weights are random, which changes no time.
    network = build(known["architecture"], shape[0], known["num_classes"]).eval()
    found: Forms = forms(student, network, asked.threads)
    first = next(images_of(asked, student))[:CHECKED]
    files, unwritten = sizes(student, network, first)
    compared = agreements(found.student, images_of(asked, student))
    timed = [
        row for batch in asked.batch for row in times(found.timed, shape, batch, asked.repeats)
    ]
    counts = Counter(fact.form for fact in found.facts)
    source = asked.data or (asked.synthetic and "synthetic images") or "noise"
    return {
        "name": asked.name,
        "what": _what(student, known["architecture"]),
        "sizes": [{"of": of, "bytes": size, "to_float": size / files[0][1]} for of, size in files],
        "images": f"{compared[0].images:,} images ({source})",
        "reference_form": INTEGER_FORM,
        "agreement": [asdict(row) for row in compared],
        "reference": next(name for name in REFERENCE if name in found.timed),
        "threads": asked.threads,
        "repeats": asked.repeats,
        "times": timed,
        "forms": dict(counts),
        "not_integer": [str(fact) for fact in found.facts if not fact.exact],
        "missing": [*found.missing, *unwritten],
    }


def _what(student: Student, architecture: str) -> str:
    """The student and the machine, in words."""
    scheme = student.scheme
    activations = " / ".join(map(str, scheme.activation_bits))
    images = "×".join(map(str, student.cost.trace.input_shape))
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    vnni = "yes" if torch.cpu._is_vnni_supported() else "no"
    return (
        f"{architecture}, weights of {scheme.weight_bits} bits, activations of {activations}, "
        f"images {images}; torch {torch.__version__}, {machine}, VNNI {vnni}."
    )


def main() -> None:
    """Measure, print, and write report.md and report.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deployment", description=__doc__)
    parser.add_argument("student", type=Path, help="folder of a student")
    parser.add_argument("--name", help="of the report; the architecture's if it is left out")
    parser.add_argument("--data", help="labelled set, as data.name; its test images")
    parser.add_argument("--root", default="data", help="folder of the labelled set")
    parser.add_argument(
        "--synthetic", type=Path, help="folder of synthetic images, where there is no labelled set"
    )
    parser.add_argument(
        "--images", type=int, help="how many, evenly spread; all if left out, 100 of noise"
    )
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        default=[1, 32],
        help="images at a time, where they are timed",
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    card = json.loads((asked.student / "student.json").read_text())
    asked.name = asked.name or card["teacher"]["architecture"].rpartition("/")[2]
    torch.set_num_threads(asked.threads)
    found = measure(asked)
    folder = REPORTS / asked.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    (folder / "report.md").write_text(page(found))
    print(page(found), end="")


if __name__ == "__main__":
    main()
