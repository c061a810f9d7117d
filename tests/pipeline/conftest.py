"""One finished run of a tiny experiment, shared by all tests and processes; whoever changes
something takes a copy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock
from project import Project


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all of pytest's processes see."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "pipeline"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def finished(shared_folder: Path) -> Project:
    """The experiment after `dvc repro`, committed. Not to be changed."""
    folder, log = shared_folder / "finished", shared_folder / "log.txt"
    with FileLock(shared_folder / "lock"):
        if not log.exists():
            project = Project.create(folder)
            output = project("dvc", "repro")
            project.commit("A finished run")
            log.write_text(output)
    return Project(folder)


@pytest.fixture(scope="session")
def first_output(finished: Project) -> str:
    """What `dvc repro` printed then."""
    return (finished.folder.parent / "log.txt").read_text()


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run."""
    return finished.copy(tmp_path / "project")
