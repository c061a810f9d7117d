"""Stages that are killed in the middle, and what the next run makes of it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from project import Project, stages_run, wait_for

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="the system cannot end a process with its parent"
)


def unfinished(project: Project, pattern: str) -> list[Path]:
    return list(project.folder.glob(f".scratch/{pattern}"))


class Run:
    """One stage that is computed anew, whatever DVC remembers."""

    def __init__(self, project: Project, stage: str) -> None:
        project.forget(stage)
        self.dvc = project.start("dvc", "repro", "--force", "--single-item", stage)
        assert wait_for(self.stages), (
            "dvc itself has no stage running: a shell stands between, or it failed"
        )
        [self.stage] = self.stages()

    def stages(self) -> list[psutil.Process]:
        """Python processes that dvc started itself."""
        children = psutil.Process(self.dvc.pid).children()
        return [
            child
            for child in children
            if [Path(word).name for word in child.cmdline()[:2]] == ["python", "-m"]
        ]

    def kill(self, together: bool) -> None:
        """SIGKILL to dvc, and to its stage or not; both are gone afterwards."""
        if together:
            os.killpg(self.dvc.pid, signal.SIGKILL)
        else:
            self.dvc.kill()
        self.dvc.communicate()
        assert wait_for(self.ended, 5), "the stage lives on"

    def ended(self) -> bool:
        """Whether the stage has ended, and at most its entry in the process table is left."""
        try:
            return self.stage.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def test_synthesis_goes_on_with_the_missing_shards(project: Project, finished: Project):
    run = Run(project, "synthesize")
    assert wait_for(lambda: unfinished(project, "synthesize-*/shard-00000.json"))
    run.kill(together=True)
    done = unfinished(project, "synthesize-*/shard-*.json")
    assert 0 < len(done) < 4
    assert not (project.folder / "artifacts/synthetic").exists()

    output = project("dvc", "repro", "synthesize")
    assert stages_run(output) == ["synthesize"]
    assert project.artifacts() == finished.artifacts()
    assert project.scratch() == []
    assert project.stale() == set()


@linux
def test_fine_tuning_ends_with_dvc_and_goes_on_with_the_next_epoch(
    project: Project, finished: Project
):
    run = Run(project, "finetune")
    assert wait_for(lambda: unfinished(project, "finetune-*/state.pt"))
    run.kill(together=False)
    assert unfinished(project, "finetune-*/state.pt")
    assert not (project.folder / "artifacts/student").exists()

    output = project("dvc", "repro", "finetune")
    assert stages_run(output) == ["finetune"]
    assert project.artifacts() == finished.artifacts()
    assert project.scratch() == []


@linux
def test_a_stage_ends_with_dvc_from_its_first_moment(project: Project):
    # A stage that outlived dvc would write beside the next run.
    run = Run(project, "similarity")
    run.kill(together=False)
    assert not (project.folder / "artifacts/similarity").exists()
