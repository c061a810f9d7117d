"""A new project: the pipeline's files, whose stages depend on the installed version of dynadfq."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from dynadfq import __version__
from dynadfq.project.files import TEMPLATE, copy, listed
from dynadfq.runtime.errors import InvalidArgument, require_choice

INSTALLED = Path(__file__).parents[2]  # site-packages, or the repository
REQUIREMENTS = "requirements.txt"
HEAD = f"""\
# The pipeline. Its stages are the modules in stages/, which are yours to change. They depend on
# the version of dynadfq in {REQUIREMENTS}: after an update, write the new version there, and
# `dvc repro` runs them again.
"""


def source() -> Path:
    """Return the folder that holds the pipeline's files: of the wheel, or of the repository."""
    template = INSTALLED / TEMPLATE
    return template if template.is_dir() else INSTALLED


def ready_experiments() -> list[str]:
    """Return the names of the experiments in ``configs/``."""
    return sorted(path.stem for path in (source() / "configs").glob("*.yaml"))


def create_project(folder: Path, config: str = "digits") -> None:
    """Write a DVC project in which ``dvc repro`` runs an experiment.

    Outside of a git repository one is made; without git, DVC is set to work without it.

    Args:
        folder: where; it is made if it is missing.
        config: the experiment that becomes ``params.yaml``.

    Raises:
        InvalidArgument: there is no such experiment, or the folder already has one of the files.
    """
    require_choice("config", config, ready_experiments())
    names = ["params.yaml", REQUIREMENTS, *map(str, listed(source()))]
    present = [name for name in names if (folder / name).exists()]
    if present:
        raise InvalidArgument(
            "folder", f"{folder} already has {present[0]}; give a new folder, nothing was written"
        )
    copy(source(), folder)
    shutil.copyfile(folder / "configs" / f"{config}.yaml", folder / "params.yaml")
    (folder / REQUIREMENTS).write_text(f"dynadfq[pipeline]=={__version__}\n", encoding="utf-8")
    pipeline = folder / "dvc.yaml"
    pipeline.write_text(of_installed_package(pipeline.read_text(encoding="utf-8")), "utf-8")
    if not _in_git(folder):
        config_file = folder / ".dvc" / "config"
        config_file.write_text(config_file.read_text("utf-8") + "    no_scm = true\n", "utf-8")


def of_installed_package(pipeline: str) -> str:
    """Return the repository's ``dvc.yaml`` with the package's version in place of its folders.

    >>> print(of_installed_package('''# Head
    ... stages:
    ...   check:
    ...     deps: [dynadfq/runtime, stages/check.py]
    ...   teacher:
    ...     deps: &some
    ...       - dynadfq/runtime
    ...       - stages/teacher.py'''))  # doctest: +ELLIPSIS
    # The pipeline. Its stages...
    stages:
      check:
        deps: [requirements.txt, stages/check.py]
      teacher:
        deps: &some
          - requirements.txt
          - stages/teacher.py
    """
    body = pipeline[re.search(r"^stages:", pipeline, re.M).start() :]  # type: ignore[union-attr]
    body = re.sub(r"^ +- dynadfq/.*\n|dynadfq/[\w/.]+, *", "", body, flags=re.M)
    body = body.replace("deps: [", f"deps: [{REQUIREMENTS}, ")
    body = re.sub(r"^( +)deps:( &\w+)?\n", rf"\g<0>\1  - {REQUIREMENTS}\n", body, flags=re.M)
    return HEAD + body


def _in_git(folder: Path) -> bool:
    """Whether the folder lies in a git repository; makes one if it does not."""
    if any((place / ".git").exists() for place in (folder, *folder.resolve().parents)):
        return True
    if shutil.which("git") is None:
        return False
    done = subprocess.run(["git", "init", "--quiet", str(folder)], capture_output=True)
    return done.returncode == 0
