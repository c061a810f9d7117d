"""Start-up of every stage: parameters checked, deterministic kernels, freed memory kept."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

import dynadfq
from dynadfq.params.view import V, View, key_of, load
from dynadfq.runtime import seeding
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.memory import kept_memory
from dynadfq.runtime.program import one_line
from dynadfq.runtime.resume import (
    Scratch,
    digest,
    file_sha256,
    fingerprint,
    library_digest,
    put,
)
from stages import launch

# Keys of params.yaml for arguments that are called otherwise in Python.
ALIASES = {
    "activation_bits": "selector.candidates",
    "class_file": "data.classes",
    "data_set": "data.name",
    "module": "teacher.architecture",
    "ranges": "quantization.ranges",
    "trust": "teacher.architecture",
}


class TeacherName(View):
    """The network that the user named; no other import path in an artifact is followed."""

    architecture: str


def require_version(requirements: Path = Path("requirements.txt")) -> None:
    """Check that a project of ``dynadfq init`` names the installed version.

    Its stages depend on that file in place of the package's folders.

    Raises:
        InvalidArgument: it names another one.
    """
    if not requirements.exists():
        return
    text = requirements.read_text(encoding="utf-8")
    named = re.search(r"^dynadfq(?:\[.*\])?==(\S+)", text, re.MULTILINE)
    if named and named[1] != dynadfq.__version__:
        raise InvalidArgument(
            str(requirements),
            f"names dynadfq {named[1]}, and {dynadfq.__version__} is installed; "
            "write the installed version there, or install the other",
        )


def root(path: str) -> Path:
    """Return a path relative to the main repository, also in a queued experiment's copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")) / path


def put_for_dvc(path: str) -> Path:
    """Return a dependency, which a queued experiment may find in the main repository only.

    Such an experiment, and one of ``--temp``, runs in a copy that lacks the files that git ignores.
    The file is put into the copy, too: DVC records the content of dependencies after a stage has
    run, and takes a stage's earlier result only where the recorded content is the same.
    """
    here, there = Path(path), root(path)
    if not here.exists() and there.is_file():
        put(there, here)
    return here if here.exists() else there


@contextmanager
def yaml_keys(p: View) -> Iterator[None]:
    """Turn arguments that a library error begins with into keys of params.yaml.

    For example, "num_classes: …" becomes "teacher.num_classes: …".
    """
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        names, _, problem = str(error).partition(": ")
        keys = [ALIASES.get(name) or key_of(p, name) for name in names.split(", ")]
        if not all(keys):
            raise
        argument = ", ".join(filter(None, keys))
        if isinstance(error, InvalidArgument):
            raise InvalidArgument(argument, problem) from error
        raise type(error)(f"{argument}: {problem}") from error


def unfinished(stage: str, method: str | None, *identity: Any) -> Scratch:
    """Return a stage's scratch folder, which no run with other code, inputs or torch continues.

    Args:
        stage: its name in dvc.yaml.
        method: value of ``method.name``, if the stage depends on the method's file.
        identity: what else the result depends on: parameters, and digests of inputs.
    """
    return Scratch.of_stage(stage, code_digest(stage, method), torch.__version__, *identity)


def code_digest(stage: str, method: str | None) -> str:
    """Return a fingerprint of the code that DVC sees as a stage's dependencies.

    Where dvc.yaml lists no folder of the library, the whole library counts.
    """
    pipeline = Path("dvc.yaml")
    listed = yaml.safe_load(pipeline.read_text())["stages"] if pipeline.exists() else {}
    deps = [str(dep) for dep in listed.get(stage, {}).get("deps", ())]
    code = [dep for dep in deps if dep.startswith(("dynadfq/", "stages/"))]
    paths = [Path(dep.replace("${method.name}", str(method))) for dep in code]
    found = [file_sha256(path) if path.is_file() else digest(path) for path in paths]
    if not any(path.parts[0] == "dynadfq" for path in paths):
        found.append(library_digest())
    return fingerprint(found)


def main(stage: Callable[[V], None], view: type[V], divisible: bool = False) -> None:
    """Run a stage with the parameters that it declares, after all of them are checked.

    Args:
        stage: the function to run.
        view: the parameters that it sees.
        divisible: whether ``launch.processes`` ranks may share the work.
    """

    def run() -> None:
        require_version()
        p = load(view)
        with yaml_keys(p):
            stage(p)

    guarded(run, divisible)


def guarded(run: Callable[[], None], divisible: bool = False) -> None:
    """Run a stage's work; an error that a user can act on, or a signal, is one line on stderr."""
    seeding.deterministic()
    with kept_memory(), one_line(stage_name(), launch.GO_ON):
        if divisible and launch.is_rank():
            launch.as_rank(run)
        elif not (divisible and launch.in_ranks(sys.argv[1:])):
            run()


def stage_name() -> str:
    """Return the name of the stage that this process runs, with which its messages begin."""
    return os.environ.get("DVC_STAGE") or Path(sys.argv[0]).stem
