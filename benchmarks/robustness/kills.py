"""``python -m benchmarks.robustness.kills``: SIGKILL at random moments of a small pipeline.

A clone of the last commit runs ``dvc repro`` once undisturbed. Then it runs again and again, and is
killed after a random time: DVC alone, or DVC together with its stage. Whenever a run comes to its
end, everything it wrote is compared with the undisturbed run byte for byte, and deleted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.settings import overridden

ROOT = Path(__file__).parents[2]
# Shards and epochs are several; seconds in all.
SMALL = {
    "device": "cpu",
    "data.image_size": None,
    "teacher.epochs": 2,
    "synthesis.num_images": 64,
    "synthesis.batch_size": 8,
    "synthesis.iterations": 10,
    "finetune.epochs": 6,
    "finetune.steps_per_epoch": 3,
    "finetune.batch_size": 8,
    "finetune.calibration_images": 16,
    "selector.warm_up_images": 16,
    "evaluation.test_images": 64,
    "evaluation.budgets": 3,
    "evaluation.control_repeats": 1,
    "evaluation.sensitivity_bits": [4],
    "export.formats": [],
}
OUTPUTS = ("artifacts", "reports")
UNFINISHED = ".scratch"


def cloned(folder: Path) -> None:
    """Clone the last commit, with the parameters of a small experiment."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    content = yaml.safe_load((folder / "configs" / "digits.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(overridden(content, SMALL)))


def reproduce(folder: Path, seconds: float | None, together: bool) -> bool:
    """Run ``dvc repro``, kill it after some seconds, and return whether it had finished.

    Args:
        folder: of the pipeline.
        seconds: until it is killed; None never kills it.
        together: kill the stage too; otherwise it has to end by itself.

    Raises:
        RuntimeError: the run failed by itself; holds what it printed.
    """
    with tempfile.TemporaryFile("w+") as log:
        run = subprocess.Popen(
            ["dvc", "repro"],
            cwd=folder,
            env={**os.environ, "DVC_NO_ANALYTICS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            if together:
                os.killpg(run.pid, signal.SIGKILL)
            else:
                run.kill()
            run.wait()
            return False
        if run.returncode:
            log.seek(0)
            raise RuntimeError(log.read())
    return True


def contents(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that the pipeline wrote."""
    paths = [path for name in OUTPUTS for path in (folder / name).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def forget(folder: Path) -> None:
    """Delete results, and DVC's record and copies of them."""
    for name in (*OUTPUTS, ".dvc/cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return the files that differ, or exist on one side only."""
    names = expected.keys() | found.keys()
    return sorted(name for name in names if expected.get(name) != found.get(name))


def main() -> None:
    """Kill, continue, compare, and print one line for each kill and each comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness.kills")
    parser.add_argument("--kills", type=int, default=30, help="number of kills (default 30)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="dynadfq-kills-") as place:
        folder = Path(place) / "pipeline"
        cloned(folder)
        begun = time.monotonic()
        reproduce(folder, None, together=True)
        whole = time.monotonic() - begun
        expected = contents(folder)
        print(f"undisturbed: {whole:.0f} s, {len(expected)} files", flush=True)
        forget(folder)
        kills = complete = 0
        wrong: list[str] = []
        last = False
        while not last:
            last = kills >= options.kills  # what is left runs to its end
            seconds = None if last else rng.uniform(0, whole / 2)
            together = rng.random() < 0.5
            if not reproduce(folder, seconds, together):
                kills += 1
                print(
                    f"kill {kills}: {'both' if together else 'dvc'} after {seconds:.1f} s",
                    flush=True,
                )
                continue
            complete += 1
            different = differences(expected, contents(folder))
            left = [path.name for path in (folder / UNFINISHED).glob("*")]
            wrong += different + left
            print(
                f"run {complete} finished after {kills} kills; different: {different}, "
                f"left: {left}",
                flush=True,
            )
            forget(folder)
    raise SystemExit(f"{len(wrong)} files differ or are left" if wrong else 0)


if __name__ == "__main__":
    main()
