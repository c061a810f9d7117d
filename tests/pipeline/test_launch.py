"""Stages as several processes, started by themselves through torchrun."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from project import PATIENCE, Project, stages_run, wait_for
from test_interrupts import unfinished

from stages.launch import GO_ON

TWO, THREE = {"launch.processes": 2}, {"launch.processes": 3}


def ranks_of(pid: int) -> dict[int, psutil.Process]:
    """The processes that torchrun started below another, by rank."""
    found = {}
    for process in psutil.Process(pid).children(recursive=True):
        try:
            environment = process.environ()
        except psutil.Error:  # it has just ended
            continue
        if "RANK" in environment:
            found[int(environment["RANK"])] = process
    return found


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def history(project: Project) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(project.artifacts("student")["student/history.csv"]))


def test_three_processes_make_the_same_images(project: Project, finished: Project):
    project.set(THREE)
    assert project.stale() == set(), "the number of processes changes no result"
    project.forget("synthesize")
    output = project("dvc", "repro", "--force", "--single-item", "synthesize")
    assert "stages.synthesize: 3 processes, OMP_NUM_THREADS=1 each" in output
    assert project.artifacts() == finished.artifacts()
    assert project.scratch() == []


def test_two_processes_measure_the_same(project: Project, finished: Project):
    project.set(TWO)
    output = project("dvc", "repro", "--force", "--single-item", "evaluate")
    assert "stages.evaluate: 2 processes" in output
    assert project.artifacts() == finished.artifacts()


@pytest.mark.skipif(sys.platform != "linux", reason="environments of processes are read from /proc")
def test_a_rank_that_dies_ends_the_run_and_the_next_goes_on(project: Project, finished: Project):
    project.set(TWO)
    project.forget("finetune")
    run = project.start("dvc", "repro", "--force", "--single-item", "finetune")
    assert wait_for(lambda: unfinished(project, "finetune-*/state.pt"))
    ranks = ranks_of(run.pid)
    ranks[1].kill()
    output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode and all(map(gone, ranks.values()))
    said = f"rank 1: ended by SIGKILL; {GO_ON}"
    assert said in output.splitlines() and "Traceback" not in output
    assert unfinished(project, "finetune-*/state.pt")

    output = project("dvc", "repro", "finetune")
    assert stages_run(output) == ["finetune"]
    pd.testing.assert_frame_equal(history(project), history(finished), rtol=1e-3)
    assert project.scratch() == []


@pytest.mark.skipif(
    sys.platform != "linux", reason="the system cannot end a process with its parent"
)
def test_ranks_end_with_dvc_from_their_first_moment(project: Project):
    project.set(TWO)
    project.forget("finetune")
    run = project.start("dvc", "repro", "--force", "--single-item", "finetune")
    assert wait_for(lambda: len(ranks_of(run.pid)) == 2)
    ranks = ranks_of(run.pid)
    assert wait_for(
        lambda: all("libtorch" in Path(f"/proc/{r.pid}/maps").read_text() for r in ranks.values())
    )
    run.kill()
    run.communicate()
    assert wait_for(lambda: all(map(gone, ranks.values())), 10), "a rank lives on"
