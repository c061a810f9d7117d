"""The wheel, built once and unpacked outside the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from outside import Outside
from project import ROOT


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, in which building leaves files."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns("artifacts", "cache", "tmp", "build", ".git", ".venv"),
    )
    return source


@pytest.fixture(scope="session")
def site(source: Path) -> Path:
    """A folder that holds what the wheel would install, and nothing else."""
    top = source.parent
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--no-build-isolation", "-w", top, source], check=True)
    [wheel] = top.glob("*.whl")
    with ZipFile(wheel) as files:
        files.extractall(top / "site")
    return top / "site"


@pytest.fixture
def outside(site: Path, tmp_path: Path) -> Outside:
    return Outside(tmp_path, site)
