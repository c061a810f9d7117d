"""Memory of synthesis and fine-tuning at 1× and 10× the number of images, and with an
ImageNet-sized set in 4 GiB.

    python -m benchmarks.speed.memory ratio python -m benchmarks.speed.memory imagenet --folder DISK
    # writes 3.1 GB there, and removes them

Each stage runs in a process of its own, on a network of two convolutions, so that images weigh more
than activations. Measured is what the kernel says of the process: its largest anonymous memory
(RssAnon, sampled), which a machine without swap cannot take back, and its largest memory of all
(VmHWM), pages of files included. The limit is on what a process allocates or maps privately and
writably (RLIMIT_DATA). Outside it are pages of files that are only read; the kernel drops those
when memory runs short. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

FEW, TIMES, REPEATS = 512, 10, 3
SMALL = {"shape": (3, 64, 64), "classes": 10}  # 48 KiB an image: 25 MB of images, and 250 MB
IMAGENET = {"shape": (3, 224, 224), "classes": 1000}
IMAGENET_IMAGES = 5120
LIMIT = 4.0  # GiB
Taken = dict[str, float]  # what one process took, by name


def run(
    stage: str,
    folder: Path,
    images: int,
    of: dict[str, Any],
    storage: str,
    limit: float | None = None,
) -> Taken:
    """Peaks in MiB and CPU seconds of one stage in a process of its own, limited to so many GiB.

    Raises:
        RuntimeError: the process failed; its last words.
    """
    order = json.dumps(
        {"stage": stage, "folder": str(folder), "images": images, "storage": storage, **of}
    )

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30),) * 2)

    command = [sys.executable, "-m", "benchmarks.speed.memory_stages", order]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, env=alone)
    if done.returncode:
        raise RuntimeError(
            f"{stage} of {images} images in {limit} GiB: {done.stderr.strip()[-500:]}"
        )
    taken: Taken = json.loads(done.stdout.splitlines()[-1])
    return taken


def ratios(folder: Path) -> None:
    """Both stages at both sizes in turn, several times over; prints means, spreads and the ratio of
    means.
    """
    taken: dict[tuple[str, int], list[Taken]] = {}
    for repeat in range(REPEATS):
        for images in (FEW, TIMES * FEW):
            for stage in ("synthesize", "finetune"):
                one = run(stage, folder / f"{repeat}-{images}", images, SMALL, "float32")
                taken.setdefault((stage, images), []).append(one)
    print(f"MiB, mean ± spread over {REPEATS} runs; anonymous memory, and all of it")
    for stage in ("synthesize", "finetune"):
        for kind in ("anonymous", "all"):
            few, many = (
                [one[kind] for one in taken[stage, images]] for images in (FEW, TIMES * FEW)
            )
            print(
                f"{stage:10} {kind:9}  {FEW} images {_spread(few)}  {TIMES * FEW} images {_spread(many)}"
                f"  ratio {mean(many) / mean(few):.3f}"
            )


def imagenet(folder: Path, storage: str) -> None:
    """Make an ImageNet-sized set and fine-tune on it for one shuffled epoch, both in ``LIMIT``;
    print both.
    """
    target = folder / "set"
    for stage in ("synthesize", "finetune"):
        one = run(stage, target, IMAGENET_IMAGES, IMAGENET, storage, LIMIT)
        size = sum(path.stat().st_size for path in target.iterdir())
        print(
            f"{stage:10} {storage}: {size / 2**30:.2f} GiB on disk, RLIMIT_DATA {LIMIT:g} GiB; anonymous "
            f"{one['anonymous']:.0f} MiB, all {one['all']:.0f} MiB, {one['seconds']:.0f} CPU seconds"
        )


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):7.1f} ± {stdev(values):4.1f}"


def main() -> None:
    """Measure what the command line asks for; all files are removed at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("ratio", "imagenet"))
    parser.add_argument(
        "--folder", type=Path, help="where the images are written; by default the temporary folder"
    )
    parser.add_argument(
        "--storage",
        default="float32",
        choices=("float32", "float16"),
        help="of the ImageNet-sized set",
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dynadfq-memory-", dir=asked.folder) as name:
        if asked.what == "ratio":
            ratios(Path(name))
        else:
            imagenet(Path(name), asked.storage)


if __name__ == "__main__":
    main()
