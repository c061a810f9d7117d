"""Records and the files that they describe: read bounded and typed, replaced readably."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from safetensors.torch import save

from dynadfq.runtime import artifact
from dynadfq.runtime.artifact import (
    Checksum,
    DamagedArtifact,
    Record,
    Size,
    read_record,
    record_bytes,
)
from dynadfq.runtime.config import Config
from dynadfq.runtime.described_file import read_described, reading, to_tensors, write_described
from dynadfq.runtime.errors import InvalidArgument

REMEDY = "; make it again (stage cook), or restore it with `dvc checkout --force`"


class Part(Config):
    """A nested part with a default."""

    depth: int = 3
    name: str


class Dish(Record):
    """A record with every kind of field."""

    FORMAT: ClassVar[str] = "dish/2"
    STAGE: ClassVar[str] = "cook"

    weight: float
    parts: tuple[Part, ...] = ()
    part: Part
    note: str | None = None
    sha256: Checksum
    bytes: Size = Field(le=10**6)


GOOD: dict[str, Any] = {
    "weight": 1.5,
    "parts": [{"depth": 1, "name": "a"}],
    "part": {"depth": 2, "name": "b"},
    "sha256": "0" * 64,
    "bytes": 7,
}
TEXT = record_bytes(GOOD, Dish).decode()


def test_what_is_written_is_read_and_written_again_the_same(tmp_path: Path) -> None:
    (tmp_path / "dish.json").write_text(TEXT)
    found = read_record(tmp_path / "dish.json", Dish)
    again = found.model_dump(mode="json", exclude={"format"}, exclude_unset=True)
    assert again == GOOD and record_bytes(again, Dish).decode() == TEXT


def test_numbers_of_other_libraries_are_numbers() -> None:
    ours = {**GOOD, "weight": np.float32(1.5), "bytes": np.int64(7)}
    theirs = {**GOOD, "weight": torch.tensor(1.5), "bytes": torch.tensor(7)}
    assert record_bytes(ours, Dish) == record_bytes(theirs, Dish) == TEXT.encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": "x"}, 'weight: input should be a valid number; got "x"'),
        ({"weight": float("nan")}, "weight: input should be a finite number; got NaN"),
        ({"weight": object}, "weight: input should be a valid number"),
        ({"part": {"name": "b", "colour": 1}}, "part.colour: unknown"),
        ({"parts": [{"name": 1}]}, "parts[0].name: input should be a valid string; got 1"),
    ],
)
def test_what_cannot_be_read_is_not_written(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        record_bytes({**GOOD, **change}, Dish)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged (Expecting value: line 1 column 1 (char 0))"),
        ("[" * 100_000, "is damaged (nested too deeply)"),
        ('{"a":' * 100_000, "is damaged (nested too deeply)"),
        ("[]", "holds a list, not an object"),
        ("null", "holds a NoneType, not an object"),
        ("{}", "is in the format of an earlier version, not dish/2"),
        (TEXT.replace("dish/2", "dish/1"), 'is in the format "dish/1", not dish/2'),
        (TEXT.replace("1.5", "NaN"), "is damaged (NaN is not a number of JSON)"),
        (TEXT.replace("1.5", "1e999"), "is wrong: weight: input should be a finite number"),
        (TEXT.replace("1.5", "9" * 5000), "is damaged (Exceeds the limit"),
        (TEXT.replace('"weight"', '"bytes"'), "is damaged ('bytes' is listed twice)"),
        (TEXT.replace('"weight"', '"w"'), "lacks weight"),
        (TEXT.replace('"depth": 2,', ""), "lacks part.depth"),
        (TEXT.replace('"a"', '"' + "a" * 100 + '", "x": 1'), "is wrong: parts[0].x: unknown"),
        (TEXT.replace("00", "0g"), "is wrong: sha256: string should match pattern"),
        (TEXT.replace("7", str(10**18)), "is wrong: bytes: input should be less than"),
        (TEXT.encode("utf-16"), "is damaged ('utf-8' codec can't decode byte"),
    ],
)
def test_wrong_content_is_one_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "dish.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamagedArtifact) as error:
        read_record(path, Dish)
    assert str(error.value).startswith(f"{path} {message}") and str(error.value).endswith(REMEDY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "cannot be read (Is a directory)"),
        (lambda path: path.symlink_to(path), "cannot be read (Too many levels of symbolic links)"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda path: _sparse(path, 10**12), "is larger than 1,000 bytes"),
    ],
)
def test_what_is_no_such_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Any], message: str
) -> None:
    monkeypatch.setattr(artifact, "LARGEST_RECORD", 1000)
    make(tmp_path / "dish.json")
    with pytest.raises(DamagedArtifact) as error:
        read_record(tmp_path / "dish.json", Dish)
    assert str(error.value) == f"{tmp_path / 'dish.json'} {message}{REMEDY}"


def _sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def test_no_file_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dish\.json does not exist; make it first"):
        read_record(tmp_path / "dish.json", Dish)


@pytest.mark.parametrize("data", [b"", b"other..", b"content and more", b"c"])
def test_a_described_file_is_that_file(tmp_path: Path, data: bytes) -> None:
    checksum = sha256(b"content").hexdigest()
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(DamagedArtifact, match=r"file is (not the file that dish|larger than 7)"):
        read_described(tmp_path / "file", checksum, 7, "dish.json", "cook")
    (tmp_path / "file").write_bytes(b"content")
    assert read_described(tmp_path / "file", checksum, 7, "dish.json", "cook") == b"content"


def test_a_pair_is_readable_whenever_its_replacement_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(data: bytes) -> None:
        facts = {**GOOD, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
        write_described(tmp_path, "dish.json", record_bytes(facts, Dish), "file", data)

    def read() -> bytes:
        facts = read_record(tmp_path / "dish.json", Dish)
        return read_described(tmp_path / "file", facts.sha256, facts.bytes, "dish.json", "cook")

    original = os.replace
    found = []
    for last in range(4):
        write(b"former")
        renames = iter(range(100))

        def killed(source: Any, target: Any, last: int = last, renames: Any = renames) -> None:
            if next(renames) == last:
                raise KeyboardInterrupt
            original(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            try:
                write(b"new")
            except KeyboardInterrupt:
                found.append(read())
    assert found == [b"former", b"former", b"new"] and read() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "dish.json",
        "file",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(tmp_path: Path, value: float) -> None:
    data = save({"a": torch.ones(3), "b": torch.tensor([1.0, value])})
    with pytest.raises(DamagedArtifact, match=r"file holds NaN or infinity in b; make it again"):
        to_tensors(data, tmp_path / "file", "cook")


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}", save({})[:4]]
)
def test_a_header_is_not_believed(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DamagedArtifact, match=r"file is damaged \(.*\); make it again"):
        to_tensors(data, tmp_path / "file", "cook")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InvalidArgument("mean", "wrong"), "mean: wrong"),
        (RuntimeError("first line\nsecond"), "first line"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_errors_about_content_name_the_file(tmp_path: Path, error: Exception, words: str) -> None:
    with (
        pytest.raises(DamagedArtifact) as raised,
        reading(tmp_path / "file", "cook"),
    ):
        raise error
    assert str(raised.value) == f"{tmp_path / 'file'} is wrong: {words}{REMEDY}"
