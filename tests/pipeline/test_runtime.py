"""How stages start."""

from __future__ import annotations

import json
import os
import sys
from itertools import count
from pathlib import Path

import pytest

import stages
from dynadfq.data.config import DataConfig
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import atomic_write
from dynadfq.teacher.config import TeacherConfig
from stages import runtime
from stages.labelled import data_fingerprint
from stages.runtime import code_digest, yaml_keys
from stages.teacher import TeacherParams, weights_file


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("num_classes: 9 differs"), "teacher.num_classes: 9 differs"),
        (InvalidArgument("batch_size", "is 9"), "teacher.batch_size: is 9"),
        (ImportError("mean, std: not given"), "teacher.mean, teacher.std: not given"),
        (ValueError("data_set: has 10 classes"), "data.name: has 10 classes"),
        (ValueError("a/b.png: not an image"), "a/b.png: not an image"),
        (ValueError("no key here"), "no key here"),
    ],
    ids=str,
)
def test_arguments_in_library_errors_become_keys_of_params_yaml(
    error: Exception, expected: str
) -> None:
    p = TeacherParams(seed=0, device="cpu", data=DataConfig(), teacher=TeacherConfig())
    with pytest.raises(type(error)) as caught, yaml_keys(p):
        raise error
    assert str(caught.value) == expected


def test_unfinished_work_belongs_to_the_code_that_dvc_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = ["dynadfq/quant", "dynadfq/methods/${method.name}.py", "stages/finetune.py", "data"]
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"finetune": {"deps": listed}}}))

    def edited(path: str) -> str:
        atomic_write(tmp_path / path, str(next(numbers)).encode())
        return code_digest("finetune", "zeroq")

    numbers = count()
    seen = [edited(f"dynadfq/methods/{name}.py") for name in ("zeroq", "hast")]
    seen += [edited("dynadfq/quant/a.py"), edited("stages/finetune.py")]
    assert len({*seen}) == 3 and seen[0] == seen[1]
    for path in ("dynadfq/quant/__pycache__/a.pyc", "data/x", "stages/plot.py"):
        assert edited(path) == seen[-1]
    atomic_write(tmp_path / "dynadfq/quant/new.py", b"")
    assert code_digest("finetune", "zeroq") not in seen
    assert code_digest("finetune", "hast") != code_digest("finetune", "zeroq")


def test_where_dvc_lists_no_code_the_whole_library_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    without = code_digest("finetune", "zeroq")
    (tmp_path / "dvc.yaml").write_text('stages: {finetune: {deps: ["requirements.txt"]}}')
    assert code_digest("finetune", "zeroq") == without
    monkeypatch.setattr(runtime, "library_digest", lambda: "after an edit")
    assert code_digest("finetune", "zeroq") != without


def test_a_queued_experiment_gets_the_checkpoint_where_dvc_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("checkpoints/a.pth", "elsewhere/b.pth"):
        atomic_write(tmp_path / name, b"weights")
    copy = tmp_path / "copy"
    (copy / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    found = weights_file("checkpoints/a.pth")
    assert found == Path("checkpoints/a.pth") and found.read_bytes() == b"weights"
    (copy / found).unlink()
    (copy / found).write_bytes(b"of the copy")
    assert weights_file("checkpoints/a.pth").read_bytes() == b"of the copy"
    assert capsys.readouterr().err == ""
    assert weights_file("elsewhere/b.pth") == tmp_path / "elsewhere/b.pth"
    assert "DVC does not see when elsewhere/b.pth changes" in capsys.readouterr().err
    assert [path.name for path in copy.iterdir()] == ["checkpoints"]


def test_labelled_files_have_the_fingerprint_that_params_yaml_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    atomic_write(tmp_path / "pets/train/cat/0.png", b"an image")
    pets = DataConfig(name="image-folder", root="pets")
    found = data_fingerprint(pets)
    assert found is not None and f"fingerprint {found}. DVC does not" in capsys.readouterr().err
    named = pets.model_copy(update={"fingerprint": found})
    assert data_fingerprint(named) == found and capsys.readouterr().err == ""
    (tmp_path / "pets/train/cat/0.png").unlink()
    with pytest.raises(InvalidArgument, match=rf'^fingerprint: "{found}" is that of other files: '):
        data_fingerprint(named)
    assert data_fingerprint(DataConfig(name="digits")) is None


@pytest.mark.parametrize("name", ["image-folder", "digits", "my_pkg.data:build"])
def test_the_class_file_belongs_to_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "pets").mkdir()
    classes = tmp_path / "classes.txt"
    data = DataConfig(name=name, root="pets", classes="classes.txt")
    with pytest.raises(FileNotFoundError, match=r"^class_file: .*classes\.txt: no such file"):
        data_fingerprint(data)
    classes.write_text("cat\ndog\n")
    found = data_fingerprint(data)
    assert found is not None
    assert f"class file {classes} have the fingerprint {found}. DVC does" in capsys.readouterr().err
    classes.write_text("dog\ncat\n")
    with pytest.raises(InvalidArgument, match=rf'^fingerprint: "{found}" is that of other files: '):
        data_fingerprint(data.model_copy(update={"fingerprint": found}))
    assert data_fingerprint(data.model_copy(update={"name": None})) is None


PARENT, NOBODY = os.getppid(), 2**22 + 1  # Linux has no higher number than 2²²


@pytest.mark.skipif(sys.platform != "linux", reason="parents are read from /proc")
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([PARENT], False), ([NOBODY], True), ([NOBODY, PARENT], False), ([], False)],
    ids=["alive", "dead", "another is dead", "none"],
)
def test_a_stage_notices_that_its_dvc_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int], expected: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    writers = {f"/out-{n}": {"pid": n, "cmd": "dvc repro"} for n in numbers}
    atomic_write(stages.DVC_WRITERS, json.dumps({"write": writers, "read": {}}).encode())
    assert stages.dvc_has_ended() is expected


@pytest.mark.parametrize("content", [None, "", "[]", '{"write": []}', '{"write": {"/a": 3}}'])
def test_an_unknown_dvc_is_taken_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        atomic_write(stages.DVC_WRITERS, content.encode())
    assert not stages.dvc_has_ended()
