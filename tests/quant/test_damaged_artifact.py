"""A student's files, damaged, altered or not of one student: one sentence that names the file and
the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dynadfq.quant.artifact import REQUIRED
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student

Net = Callable[[], nn.Module]
REMEDY = r"; make it again \(stage finetune\), or restore it with `dvc checkout --force`$"


@pytest.fixture
def folder(make_student: Callable[..., Student], tmp_path: Path) -> Path:
    make_student().save(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    facts = json.loads((folder / "student.json").read_text())
    change(facts)
    (folder / "student.json").write_text(json.dumps(facts))


def test_the_checksum_is_that_of_the_file(folder: Path) -> None:
    facts = json.loads((folder / "student.json").read_text())
    assert facts["sha256"] == sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("place", [0.5, 0.999])
def test_an_altered_byte_is_noticed(folder: Path, make_net: Net, place: float) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[int(place * len(data))] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(
        ValueError,
        match=r"model\.safetensors is not the file that student\.json .* differs\)" + REMEDY,
    ):
        load_student(folder, make_net())


@pytest.mark.parametrize("kept", [0, 7, 5000, -1])
def test_a_truncated_file_is_one_sentence(folder: Path, make_net: Net, kept: int) -> None:
    data = (folder / "model.safetensors").read_bytes()[:kept]
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors is not the file .*" + REMEDY):
        load_student(folder, make_net())
    rewrite(folder, lambda facts: facts.update(sha256=sha256(data).hexdigest()))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged .*" + REMEDY):
        load_student(folder, make_net())


def test_weights_that_are_not_there(folder: Path, make_net: Net) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist" + REMEDY):
        load_student(folder, make_net())


@pytest.mark.parametrize("text", [b"", b'{"format": "dynadfq-', b"\xff\xfe\x00", b"[]", b"null"])
def test_broken_json_is_one_sentence(folder: Path, make_net: Net, text: bytes) -> None:
    (folder / "student.json").write_bytes(text)
    with pytest.raises(
        ValueError, match=r"student\.json (is damaged|holds a) .*" + REMEDY
    ) as error:
        load_student(folder, make_net())
    assert not isinstance(error.value, json.JSONDecodeError)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(folder: Path, make_net: Net, key: str) -> None:
    rewrite(folder, lambda facts: facts.pop(key))
    with pytest.raises(ValueError, match=rf"student\.json lacks {key}" + REMEDY):
        load_student(folder, make_net())


def test_missing_keys_of_a_part_are_named_at_once(folder: Path, make_net: Net) -> None:
    rewrite(folder, lambda facts: [facts["scheme"].pop("selector"), facts["teacher"].pop("mean")])
    with pytest.raises(
        ValueError, match=r"student\.json lacks scheme\.selector, teacher\.mean" + REMEDY
    ):
        load_student(folder, make_net())


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"selector": {"rooms": 3}}, {"activation_bits": None}]
)
def test_a_scheme_that_is_none(folder: Path, make_net: Net, change: dict[str, Any]) -> None:
    rewrite(folder, lambda facts: facts["scheme"].update(change))
    with pytest.raises(ValueError, match=r"student\.json: scheme\..*" + REMEDY):
        load_student(folder, make_net())
