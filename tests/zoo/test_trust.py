"""A file must not choose what runs: import paths in artifacts are followed only if named by the
user."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dynadfq
from dynadfq.cli.app import main
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

MODULE = "module_of_a_stranger"
NAMED = f"{MODULE}:build"
LOADERS: dict[str, Callable[..., Any]] = {
    "teacher": dynadfq.load_teacher,
    "student": dynadfq.load_student,
}
COMMANDS = [
    ("inspect",),
    ("predict", "image.png"),
    ("similarity",),
    ("bench",),
    ("budget",),
    ("export",),
    ("evaluate", "photographs"),
]


@pytest.fixture
def folders(
    teacher: Teacher, make_student: Callable[..., Student], tmp_path: Path, monkeypatch: Any
) -> Path:
    """A teacher and a student that name a module on the path; importing it leaves a trace."""
    (tmp_path / f"{MODULE}.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    teacher.save(tmp_path / "teacher")
    make_student().save(tmp_path / "student")
    name(tmp_path, NAMED)
    return tmp_path


def name(folder: Path, architecture: str) -> None:
    """Write what a network is called into both artifacts."""
    for kind in LOADERS:
        path = folder / kind / f"{kind}.json"
        facts = json.loads(path.read_text())
        (facts if kind == "teacher" else facts["teacher"])["architecture"] = architecture
        path.write_text(json.dumps(facts))


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("trust", [(), ("os:abort",), f"{MODULE}_2:build", f"a:b, {NAMED}"])
def test_nothing_is_imported_that_the_user_did_not_name(
    folders: Path, kind: str, trust: Any
) -> None:
    with pytest.raises(ValueError) as error:
        LOADERS[kind](folders / kind, trust=trust)
    assert str(error.value) == (
        f"trust: {folders / kind / kind}.json names '{NAMED}', which would be imported and "
        f"called; if you know this code, name it too: trust=('{NAMED}',) in Python, "
        f"--trust {NAMED} on the command line, teacher.architecture in params.yaml"
    )
    assert not (folders / "ran").exists()


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("path", ["os:abort", "builtins:exec", "subprocess:Popen"])
def test_what_is_named_must_still_be_a_network(folders: Path, kind: str, path: str) -> None:
    name(folders, path)
    with pytest.raises(ValueError, match="trust: "):
        LOADERS[kind](folders / kind)
    with pytest.raises(ValueError, match="architecture: "):
        LOADERS[kind](folders / kind, trust=(path,))


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_every_command_asks_for_trust(
    folders: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [command[0], str(folders / "student"), *command[1:]]
    with pytest.raises(SystemExit):
        main(arguments)
    assert f"dynadfq: --trust: {folders}" in capsys.readouterr().err
    assert not (folders / "ran").exists()
    with pytest.raises(SystemExit):
        main([*arguments, "--trust", NAMED])
    assert "has no attribute 'build'" in capsys.readouterr().err
    assert (folders / "ran").exists()


def test_a_command_on_a_float_network_asks_for_trust(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", str(folders / "teacher"), "--to", "c.npz"])
    assert f"dynadfq: --trust: {folders}" in capsys.readouterr().err
    assert not (folders / "ran").exists()
