"""A copy of this repository with an experiment of seconds, in which DVC may run, be killed and be
asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

import yaml
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

ROOT = Path(__file__).parents[2]
STAGES = [
    "check",
    "teacher",
    "similarity",
    "trial",
    "synthesize",
    "finetune",
    "finetune_fixed",
    "evaluate",
    "export",
    "plot",
]
UP_TO_DATE = "Data and pipelines are up to date."

# Shards and epochs are several, so that a run can be killed between them.
TINY: dict[str, Any] = {
    "device": "cpu",
    "data.image_size": None,
    "teacher.epochs": 1,
    "synthesis.num_images": 32,
    "synthesis.batch_size": 8,
    "synthesis.iterations": 4,
    "finetune.epochs": 3,
    "finetune.steps_per_epoch": 2,
    "finetune.batch_size": 12,  # for one, two or three processes
    "finetune.decay_every": 2,
    "finetune.calibration_images": 16,
    "selector.warm_up_images": 16,
    "evaluation.budgets": 3,
    "evaluation.control_repeats": 1,
    "evaluation.sensitivity_bits": [4],
    "export.formats": [],
    "export.check_images": 8,
    "report.grid_images": 4,
}

PATIENCE = 60.0  # seconds


class Project:
    """One such copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> Project:
        """The files that git has or would take, under a git repository of their own, with the tiny
        experiment."""
        listed = _output(
            "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT
        )
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file() and not name.startswith(
                ("reports/", "dvc.lock", "benchmarks/")
            ):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        project = cls(folder)
        project("git", "init", "--quiet", "--initial-branch=main")
        shutil.copyfile(folder / "configs" / "digits.yaml", folder / "params.yaml")
        project.set(TINY)
        return project

    def copy(self, folder: Path) -> Project:
        """The same state elsewhere, DVC's cache included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def commit(self, message: str) -> None:
        """Everything that is not ignored, to git."""
        self("git", "add", "--all")
        self("git", "commit", "--quiet", "--message", message)

    def __call__(self, *command: str, fails: bool = False) -> str:
        """Run a command in the project and return what it printed; its exit status must be as
        expected."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert bool(done.returncode) == fails, (
            f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}"
        )
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin a command in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """This Python first in PATH, one thread, a git identity, and none of the machine's git and
        DVC settings."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "GIT_", "PYTEST_"))
        }
        place = self.folder.parent
        name, address = "tests", "tests@example.org"
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(place / "no-config"),
            "DVC_SYSTEM_CONFIG_DIR": str(place / "no-config"),
            "DVC_SITE_CACHE_DIR": str(place / "site-cache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": name for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": address for who in ("AUTHOR", "COMMITTER")},
        }

    def set(self, values: dict[str, Any]) -> None:
        """Change params.yaml, by dotted keys; unknown ones are added."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in values.items():
            group = params
            *parents, last = key.split(".")
            for name in parents:
                group = group.setdefault(name, {})
            group[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def stale(self) -> set[str]:
        """The stages that DVC would run again: those whose own inputs changed, and all that depend
        on them. What `check` and `trial` write is always the same, so that no later stage runs
        again because of it."""
        with (
            catch_warnings(),
            patch.dict(os.environ, self.environment),
            Repo(str(self.folder)) as repo,
        ):
            simplefilter("ignore", DeprecationWarning)  # within DVC
            again = {stage.split(":")[-1] for stage in repo.status()}
            after = {
                stage.name: {s.name for s in repo.index.graph.predecessors(stage)}
                for stage in repo.index.stages
            }
        waiting = list(again - {"check", "trial"})
        while waiting:
            new = after[waiting.pop()] - again
            again |= new
            waiting += new
        return again

    def artifacts(self, *names: str) -> dict[str, bytes]:
        """The content of every file under artifacts/, or under some folders of it."""
        top = self.folder / "artifacts"
        places = [top / name for name in names] or [top]
        files = sorted(path for place in places for path in place.rglob("*") if path.is_file())
        return {path.relative_to(top).as_posix(): path.read_bytes() for path in files}

    def forget(self, stage: str) -> None:
        """Delete DVC's run-cache and its copy of a stage's output: what is missing then has to be
        computed."""
        shutil.rmtree(self.folder / ".dvc" / "cache" / "runs")
        [out] = load_yaml(self.folder / "dvc.lock")["stages"][stage]["outs"]
        (
            self.folder / ".dvc" / "cache" / "files" / "md5" / out["md5"][:2] / out["md5"][2:]
        ).unlink()

    def scratch(self) -> list[Path]:
        """The unfinished work that stages left."""
        return sorted(self.folder.glob(".scratch/*"))


def stages_run(output: str) -> list[str]:
    """The stages that ``dvc repro`` ran, in order, by what it printed."""
    return re.findall(r"^Running stage '(\w+)'", output, flags=re.MULTILINE)


def wait_for(what: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether something became true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def _output(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, text=True, check=True, stdout=subprocess.PIPE).stdout
