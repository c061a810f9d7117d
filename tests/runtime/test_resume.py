from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from damage import DAMAGES

from dynadfq.runtime.resume import (
    Scratch,
    atomic_write,
    digest,
    fingerprint,
    listing,
    set_aside,
)


class Killed(BaseException):
    pass


def test_a_killed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "file.json"
    atomic_write(path, b"old")

    def kill(*_: object) -> None:
        raise Killed

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, name, kill)
            atomic_write(path, b"new and longer")
        assert path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == [
            "file.json"
        ]
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new" and [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(
        IsADirectoryError, match=r"^\S*/model\.onnx is a folder, not a file; choose another name"
    ):
        atomic_write(tmp_path / "model.onnx", b"content")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "of some temporary name")

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="No space left on device") as error,
    ):
        patch.setattr(os, name, full)
        atomic_write(tmp_path / "file.json", b"content")
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(tmp_path / "file.json")
    assert not list(tmp_path.iterdir())


def test_a_killed_save_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = Scratch(tmp_path / "scratch")
    assert scratch.load() is None
    scratch.save({"epoch": 1, "weights": torch.ones(3), "history": [{"loss": 0.5}]})

    def kill(*_: object) -> None:
        raise Killed

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(os, name, kill)
            scratch.save({"epoch": 2})
    state = scratch.load()
    assert state is not None and state["epoch"] == 1 and state["history"] == [{"loss": 0.5}]
    assert torch.equal(state["weights"], torch.ones(3))
    scratch.save({"epoch": 2})
    assert scratch.load() == {"epoch": 2}
    scratch.delete()
    assert scratch.load() is None and not (tmp_path / "scratch").exists()


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scratch = Scratch(None)
    scratch.save({"epoch": 1})
    assert scratch.load() is None
    scratch.delete()
    assert not list(tmp_path.iterdir())


def test_work_of_other_parameters_is_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    here = Scratch.of_stage("finetune", {"seed": 0})
    assert here.folder is not None and here.folder.parent == Path(".scratch")
    assert here.folder == Scratch.of_stage("finetune", {"seed": 0}).folder
    others = [
        Scratch.of_stage("finetune", {"seed": 1}),
        Scratch.of_stage("finetune_fixed", {"seed": 0}),
    ]
    assert here.folder not in [other.folder for other in others]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert Scratch.of_stage("finetune", {"seed": 0}).folder == tmp_path / here.folder


def test_fingerprints_and_digests(tmp_path: Path) -> None:
    assert (
        fingerprint({"a": 1, "b": 2})
        == fingerprint({"b": 2, "a": 1})
        != fingerprint({"a": 1, "b": 3})
    )
    seen = set()
    for name, content in [("x", b"1"), ("x", b"2"), ("sub/x", b"2"), ("y", b"2")]:
        folder = tmp_path / str(len(seen))
        atomic_write(folder / name, content)
        seen.add(digest(folder))
        assert digest(folder) in seen
    assert len(seen) == 4


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_set_aside_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    scratch = Scratch(tmp_path / "work")
    scratch.save({"epoch": 1, "weights": torch.ones(3)})
    state = tmp_path / "work" / "state.pt"
    for _ in range(2):  # what was set aside before is no obstacle
        DAMAGES[damage](state)
        assert not scratch.exists() and scratch.load() is None
        [said] = capsys.readouterr().err.splitlines()
        assert said.startswith(f"{state} is damaged: it was renamed to state.pt.damaged, ")
        scratch.save({"epoch": 0})
        assert scratch.load() == {"epoch": 0} and capsys.readouterr().err == ""
    scratch.delete()
    assert not list(tmp_path.iterdir())


def test_nothing_is_set_aside_where_nothing_is(tmp_path: Path) -> None:
    set_aside(tmp_path / "state.pt")
    assert not list(tmp_path.iterdir())


def test_the_second_of_two_equal_works_waits_and_gets_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Scratch(tmp_path / "work"), Scratch(tmp_path / "work")
    events = []

    def waits() -> None:
        with second.claimed():
            events.append(("second begins with", second.load()))
            second.delete()

    said = ""
    thread = threading.Thread(target=waits)
    with first.claimed():
        thread.start()
        while not said:  # a look at the lock itself would hold it for a moment
            time.sleep(0.001)
            said = capsys.readouterr().err
        first.save({"epoch": 3})
        events.append(("first ends", None))
        first.delete()
    thread.join()
    assert events == [("first ends", None), ("second begins with", {"epoch": 3})]
    assert not list(tmp_path.iterdir())
    said += capsys.readouterr().err
    assert said == f"another process does the work of {tmp_path}/work; waiting for it\n"


def test_a_dead_holder_does_not_block(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from dynadfq.runtime.resume import Scratch
with Scratch(Path({str(tmp_path / "work")!r})).claimed():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode < 0
    assert [path.name for path in tmp_path.iterdir()] == ["work.lock"]
    with Scratch(tmp_path / "work").claimed():
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_lets_go_and_keeps_the_work(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "work")
    with pytest.raises(Killed), scratch.claimed():
        scratch.save({"epoch": 1})
        raise Killed
    with scratch.claimed():
        assert scratch.load() == {"epoch": 1}


def test_the_listing_of_a_folder_follows_names_and_sizes(tmp_path: Path) -> None:
    seen = set()
    for name, content in [("a/x", b"1"), ("a/x", b"12"), ("b/x", b"12"), ("a/x", b"")]:
        atomic_write(tmp_path / name, content)
        seen.add(listing(tmp_path))
    assert len(seen) == 4
    atomic_write(tmp_path / "b/x", b"34")
    assert listing(tmp_path) in seen  # the content is not read
    with pytest.raises(FileNotFoundError, match="none is no folder"):
        listing(tmp_path / "none")
