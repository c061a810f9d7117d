"""Damages to a folder of artifacts: how a file is changed, and whether a reader may accept it.

Each changes a copy of the folder. Where tensors or facts are edited, checksums and sizes are made
to fit again, as by somebody who knows the format.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

Change = Callable[[Path], object]
Tensors = dict[str, Tensor]
Edit = Callable[[Tensors], Tensors]
HUGE = 10**18
FLIPS = 6  # bytes of a file that are altered, one in a trial
# Keys whose content is for people: any text or number of their type is right.
FREE = {
    "class_names",
    "float_top1",
    "losses",
    "mean",
    "method",
    "multiplier",
    "not_integer",
    "origins",
    "provenance",
    "seed",
    "source",
    "versions",
}


class Damage(NamedTuple):
    """What is done to a file of an artifact."""

    file: str  # such as "student/student.json"
    kind: str
    change: Change  # of the folder of all artifacts


def damages(folder: Path, seed: int) -> Iterator[Damage]:
    """Yield all damages to the files of a folder of artifacts, in a fixed order."""
    rng = random.Random(seed)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix not in (".json", ".safetensors"):
            continue
        for kind, change in _of_any_file(path, rng):
            yield Damage(name, kind, _at(name, change))
        if path.suffix == ".json":
            for kind, change in _of_json(json.loads(path.read_text())):
                yield Damage(name, kind, _at(name, change))
        else:
            for kind, edit in _of_tensors(safetensors.torch.load_file(path)):
                yield Damage(name, kind, _edited_tensors(name, edit))


def _at(name: str, change: Change) -> Change:
    return lambda folder: change(folder / name)


# --- files of any kind


def _of_any_file(path: Path, rng: random.Random) -> Iterator[tuple[str, Change]]:
    size = path.stat().st_size
    for kept in (0, 1, 7, size // 2, size - 2):
        yield "truncated", partial(os.truncate, length=kept)
    for place in [rng.randrange(size) for _ in range(FLIPS)]:
        yield "one byte altered", partial(_alter, place=place)
    yield "appended", lambda path: path.write_bytes(path.read_bytes() + b"x")
    yield "deleted", lambda path: path.unlink()
    yield "a folder", _replaced(lambda path: path.mkdir())
    yield "a loop of links", _replaced(lambda path: path.symlink_to(path))
    yield "a dangling link", _replaced(lambda path: path.symlink_to(path.with_name("nowhere")))
    yield "a pipe", _replaced(lambda path: os.mkfifo(path))
    yield "1 TB of nothing", lambda path: os.truncate(path, 10**12)
    yield "noise", lambda path: path.write_bytes(random.Random(1).randbytes(size))
    yield "text", lambda path: path.write_text("hello\n")
    header = (2**60).to_bytes(8, "little") + b"{}"
    yield "a header of 2^60 bytes", lambda path: path.write_bytes(header)


def _alter(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] = 0 if path.suffix == ".json" else data[place] ^ 1  # no JSON has a byte 0
    path.write_bytes(data)


def _replaced(make: Change) -> Change:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


# --- JSON


def _of_json(content: Any) -> Iterator[tuple[str, Change]]:
    for text in ("[]", "null", "3", '"x"', "{}", "{", "[" * 10_000, '{"a":' * 10_000, "[NaN]"):
        yield "other JSON", partial(Path.write_text, data=text)
    yield "other encoding", lambda path: path.write_bytes(path.read_text().encode("utf-16"))
    yield "a key twice", lambda path: path.write_text('{"format": 1,' + path.read_text()[1:])
    if "class_names" in content:
        yield "a wrong value", _json_edit(("class_names",), lambda part, key: part[key].pop())
    for place, value in list(_places(content)):
        last = place[-1]
        if isinstance(last, str) and not set(place[:-1]) & FREE:
            yield "a key is missing", _json_edit(place, lambda part, key: part.pop(key))
        for wrong in _wrong_values(place, value):
            yield (
                "a wrong value",
                _json_edit(place, partial(_set, value=wrong)),
            )


def _set(part: Any, key: Any, value: Any) -> None:
    part[key] = value


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the place and value of everything in a JSON value, of a list only the first item."""
    items = content.items() if isinstance(content, dict) else enumerate(content[:1])
    for key, value in items:
        yield (*place, key), value
        if isinstance(value, (dict, list)):
            yield from _places(value, (*place, key))


def _wrong_values(place: tuple[Any, ...], value: Any) -> list[Any]:
    """Values of another type, and for numbers those that nothing may have."""
    names = {part for part in place if isinstance(part, str)}
    if isinstance(value, bool) or value is None:
        return [[], {"x": 1}]
    if isinstance(value, str):
        return [[], 3, *([] if names & FREE else ["x"])]
    if isinstance(value, int | float):
        outside = [-1, HUGE, 0.5] if isinstance(value, int) else [-0.5]
        return [[], "x", float("nan"), *([] if names & FREE else outside)]
    shorter = value[:-1] if isinstance(value, list) else {}
    return [None, "x", -1, *([] if names & FREE or not value else [shorter])]


def _json_edit(place: tuple[Any, ...], edit: Callable[[Any, Any], object]) -> Change:
    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        part = content
        for key in place[:-1]:
            part = part[key]
        edit(part, place[-1])
        path.write_text(json.dumps(content))

    return change


# --- tensors


def _of_tensors(tensors: Tensors) -> Iterator[tuple[str, Edit]]:
    """Yield edits of each of some tensors, as functions of all of them."""
    names = sorted(tensors)
    ends = ("weight", "running_var", "weight_scale", "weight_codes", "weight_zero_point")
    chosen = [next((name for name in names if name.endswith(end)), None) for end in ends]
    chosen += [name for name in names if name.startswith("sites.") or "." not in name]
    for name in dict.fromkeys(filter(None, chosen)):
        yield from _of_tensor(name, tensors[name])
    yield "a tensor too many", lambda all_of: {**all_of, "extra": torch.zeros(2)}
    yield "no tensors", lambda all_of: {}
    if "sites.low" in tensors:
        swapped = {"sites.low": tensors["sites.high"] + 1, "sites.high": tensors["sites.low"]}
        yield "low above high", lambda all_of: {**all_of, **swapped}


def _of_tensor(name: str, value: Tensor) -> Iterator[tuple[str, Edit]]:
    def edited(change: Callable[[Tensor], Tensor]) -> Edit:
        return lambda all_of: {**all_of, name: change(all_of[name]).contiguous()}

    yield "a tensor is missing", lambda all_of: {n: v for n, v in all_of.items() if n != name}
    yield "another shape", edited(lambda v: v.flatten()[:-1])
    yield "another shape", edited(lambda v: v[None])
    if value.dtype == torch.uint8:
        yield "another type", edited(lambda v: v.float())
        return
    if not value.is_floating_point():
        yield "another type", edited(lambda v: v.double())
        return
    yield "another type", edited(lambda v: v.double())
    yield "another type", edited(lambda v: v.int())
    yield "NaN", edited(lambda v: _with(v, float("nan")))
    yield "infinity", edited(lambda v: _with(v, float("inf")))
    if name.endswith(("running_var", "scale", "soft_labels")):
        yield "a negative value", edited(lambda v: _with(v, -1.0))


def _with(value: Tensor, number: float) -> Tensor:
    changed = value.clone()
    changed.view(-1)[0] = number
    return changed


def _edited_tensors(name: str, edit: Edit) -> Change:
    """Edit tensors, and make every checksum and size that is said of their file fit."""

    def change(folder: Path) -> None:
        path = folder / name
        before = path.read_bytes()
        path.write_bytes(safetensors.torch.save(edit(safetensors.torch.load(before))))
        _refit(path.parent, path.name, before, path.read_bytes())

    return change


def _refit(folder: Path, name: str, before: bytes, after: bytes) -> None:
    """Replace a file's checksum in the records beside it, and the size in the same group."""
    old, new = sha256(before).hexdigest(), sha256(after).hexdigest()

    def fitted(content: Any) -> Any:
        if isinstance(content, list):
            return [fitted(part) for part in content]
        if not isinstance(content, dict):
            return new if content == old else content
        size = {"bytes": len(after)} if old in content.values() and "bytes" in content else {}
        return {key: fitted(part) for key, part in content.items()} | size

    for record in folder.glob("*.json"):
        record.write_text(json.dumps(fitted(json.loads(record.read_text()))))
