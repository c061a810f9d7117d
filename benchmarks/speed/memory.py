"""Memory of synthesis and fine-tuning at 1× and 10× the number of images, and with an
ImageNet-sized set in 4 GiB.

    python -m benchmarks.speed.memory ratio
    python -m benchmarks.speed.memory imagenet --folder DISK    # needs 3.1 GB there for a while

Each stage runs in a process of its own, on a network of two convolutions, so that images weigh more
than activations. Measured are the largest anonymous memory of the process (RssAnon, sampled), which
a machine without swap cannot reclaim, and its largest memory of all (VmHWM), pages of files
included. The limit (RLIMIT_DATA) is on what a process allocates or maps privately and writably;
pages of files that are only read are outside it, and the kernel drops those when memory runs short.
Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.ratio import Result, summed_up
from benchmarks.speed.table import as_markdown

STAGES = ("synthesize", "finetune")
FEW = 512
MANY = 5120
SMALL = {"shape": (3, 64, 64), "classes": 10}  # 48 KiB an image: 25 MB of images, and 250 MB
IMAGENET = {"shape": (3, 224, 224), "classes": 1000}
IMAGENET_IMAGES = 5120
LIMIT = 4.0  # GiB
SLACK = 1.05  # a ratio up to this counts as the same memory
KINDS = {
    "anonymous": "largest anonymous memory of the process",
    "all": "largest memory of the process, pages of files included",
}
Taken = dict[str, float]  # what one process took, by name


def run(
    stage: str,
    folder: Path,
    images: int,
    network: dict[str, Any],
    storage: str,
    limit: float | None = None,
) -> Taken:
    """Return the peaks in MiB and the CPU seconds of one stage in a process of its own.

    Args:
        stage: one of ``STAGES``.
        folder: of the images, which ``synthesize`` writes.
        images: how many.
        network: shape of its images, and number of classes.
        storage: type of the stored images.
        limit: GiB that the process may allocate.

    Raises:
        RuntimeError: the process failed; its last words.
    """
    order = {"stage": stage, "folder": str(folder), "images": images, "storage": storage}

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30),) * 2)

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.memory_stages", json.dumps(order | network)],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        error = done.stderr.strip()[-500:]
        raise RuntimeError(f"{stage} of {images} images in {limit} GiB: {error}")
    taken: Taken = json.loads(done.stdout.splitlines()[-1])
    return taken


def measured(repeats: int = 1, kinds: tuple[str, ...] = ("anonymous",)) -> list[Result]:
    """Return the ratio of each stage's memory at many and at few images, which run in turn."""
    taken: dict[tuple[str, int], list[Taken]] = {}
    with tempfile.TemporaryDirectory(prefix="dynadfq-memory-") as name:
        for repeat in range(repeats):
            for images in (FEW, MANY):
                folder = Path(name) / f"{repeat}-{images}"
                for stage in STAGES:
                    one = run(stage, folder, images, SMALL, "float32")
                    taken.setdefault((stage, images), []).append(one)
    results = []
    for stage in STAGES:
        for kind in kinds:
            many = [one[kind] for one in taken[stage, MANY]]
            few = [one[kind] for one in taken[stage, FEW]]
            title = f"memory of {stage} at {MANY} images / at {FEW}"
            pairs = list(zip(many, few, strict=True))
            results.append(summed_up(5, title, pairs, SLACK, "MiB", KINDS[kind]))
    return results


def imagenet(folder: Path | None, storage: str) -> None:
    """Make an ImageNet-sized set and fine-tune on it for one shuffled epoch, both within ``LIMIT``;
    print both.
    """
    with tempfile.TemporaryDirectory(prefix="dynadfq-memory-", dir=folder) as name:
        target = Path(name) / "set"
        for stage in STAGES:
            one = run(stage, target, IMAGENET_IMAGES, IMAGENET, storage, LIMIT)
            size = sum(path.stat().st_size for path in target.iterdir()) / 2**30
            print(
                f"{stage:10} {storage}: {size:.2f} GiB on disk, RLIMIT_DATA {LIMIT:g} GiB; "
                f"anonymous {one['anonymous']:.0f} MiB, all {one['all']:.0f} MiB, "
                f"{one['seconds']:.0f} CPU seconds"
            )


def main() -> None:
    """Measure what the command line asks for; all files are removed at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ratio", "imagenet"))
    parser.add_argument(
        "--folder", type=Path, help="where imagenet writes; by default the temporary folder"
    )
    parser.add_argument(
        "--storage", default="float32", choices=("float32", "float16"), help="of imagenet's images"
    )
    asked = parser.parse_args()
    if asked.what == "ratio":
        print(as_markdown(measured(3, ("anonymous", "all")), torch.device("cpu")), end="")
    else:
        imagenet(asked.folder, asked.storage)


if __name__ == "__main__":
    main()
