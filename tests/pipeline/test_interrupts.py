"""Stages that are killed in the middle, and what the next run makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from project import Project, stage_process, stages_run

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system cannot end a process with its parent")
PATIENCE = 60.0  # seconds


def wait_for(what: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether something became true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def unfinished(project: Project, pattern: str) -> list[Path]:
    return list(project.folder.glob(f".scratch/{pattern}"))


def start(project: Project, stage: str) -> subprocess.Popen[str]:
    """Begin to compute one stage anew, whatever DVC remembers."""
    project.forget(stage)
    return project.start("dvc", "repro", "--force", "--single-item", stage)


def kill(dvc: subprocess.Popen[str], together: bool) -> None:
    """SIGKILL to dvc, and to its stage or not; both are gone afterwards."""
    stage = stage_process(dvc)
    if together:
        os.killpg(dvc.pid, signal.SIGKILL)
    else:
        dvc.kill()
    dvc.communicate()
    assert wait_for(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE, 5), "the stage lives on"


def test_synthesis_goes_on_with_the_missing_shards(project: Project, finished: Project):
    dvc = start(project, "synthesize")
    assert wait_for(lambda: unfinished(project, "synthesize-*/shard-00000.json"))
    kill(dvc, together=True)
    done = unfinished(project, "synthesize-*/shard-*.json")
    assert 0 < len(done) < 4
    assert not (project.folder / "artifacts/synthetic").exists()

    output = project("dvc", "repro", "synthesize")
    assert stages_run(output) == ["synthesize"]
    assert project.artifacts() == finished.artifacts()
    assert project.scratch() == []
    assert project.stale() == set()


@linux
def test_fine_tuning_ends_with_dvc_and_goes_on_with_the_next_epoch(project: Project, finished: Project):
    dvc = start(project, "finetune")
    assert wait_for(lambda: unfinished(project, "finetune-*/state.pt"))
    kill(dvc, together=False)
    assert unfinished(project, "finetune-*/state.pt")
    assert not (project.folder / "artifacts/student").exists()

    output = project("dvc", "repro", "finetune")
    assert stages_run(output) == ["finetune"]
    assert project.artifacts() == finished.artifacts()
    assert project.scratch() == []


@linux
def test_a_stage_ends_with_dvc_from_its_first_moment(project: Project):
    # Imports take seconds: a stage that outlived dvc in them would write beside the next run.
    dvc = start(project, "similarity")
    assert wait_for(lambda: loads_torch(dvc))
    kill(dvc, together=False)
    assert not (project.folder / "artifacts/similarity").exists()


def loads_torch(dvc: subprocess.Popen[str]) -> bool:
    """Whether the stage has begun to import torch."""
    for process in psutil.Process(dvc.pid).children(recursive=True):
        try:
            if "libtorch" in Path(f"/proc/{process.pid}/maps").read_text():
                return True
        except OSError:
            continue
    return False
