"""Reading and writing of artifacts: a JSON record with a schema, and the tensors it describes.

What is read may be damaged, edited by hand, or from anyone. Sizes are bounded, JSON is checked
against the record's schema, tensors against the checksum in the record. Whatever is wrong is one
sentence that names the file and the stage that makes it again.

A record and its tensors are two files, and at every moment they can be read: new tensors are first
written under a pending name, which holds their checksum; then the record is replaced; then the
tensors get their own name.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import safetensors.torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from dynadfq.runtime.config import Config, is_config
from dynadfq.runtime.errors import InvalidArgument, dotted, shown
from dynadfq.runtime.resume import atomic_write

LARGEST_RECORD = 64 << 20  # bytes; a record of a million shards or class names is smaller
LONGEST_VALUE = 60  # characters of a wrong value in an error


class DamagedArtifact(ValueError):
    """A file is not what its stage wrote: damaged, edited, or of another version."""

    def __init__(self, path: Path, problem: str, stage: str) -> None:
        super().__init__(f"{path} {problem}; {remedy(stage)}")


def remedy(stage: str, when: str = "again") -> str:
    """Return how to get an artifact of a stage."""
    return f"make it {when} (stage {stage}), or restore it with `dvc checkout --force`"


Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # sha256
Size = Annotated[int, Field(ge=1)]  # bytes


class Record(Config):
    """Content of a JSON file; every key is written but those that are None by default.

    FORMAT: the value of its key ``format``.
    STAGE: the stage of dvc.yaml that writes it.
    """

    FORMAT: ClassVar[str]
    STAGE: ClassVar[str]

    format: str


R = TypeVar("R", bound=Record)


def record_bytes(content: Mapping[str, Any], schema: type[Record]) -> bytes:
    """Return a record as text that can be read again; equal contents give equal bytes.

    Args:
        content: all keys but ``format``. Numbers may be NumPy's or torch's.
        schema: of the record.

    Raises:
        InvalidArgument: a value is not what the schema says.
    """
    whole = {**content, "format": schema.FORMAT}
    try:
        text = json.dumps(whole, indent=2, sort_keys=True, default=_plain) + "\n"
        schema.model_validate_json(text)
    except ValidationError as error:
        place, problem = _first_problem(error)
        raise InvalidArgument(place, problem) from error
    return text.encode()


def read_record(path: Path, schema: type[R]) -> R:
    """Return the checked content of a record.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedArtifact: it cannot be read, or is not what the schema says.
    """
    content = _parsed(path, schema.STAGE)
    if content.get("format") != schema.FORMAT:
        found = shown(content["format"]) if "format" in content else "of an earlier version"
        raise DamagedArtifact(path, f"is in the format {found}, not {schema.FORMAT}", schema.STAGE)
    if missing := list(_missing(content, schema)):
        raise DamagedArtifact(path, f"lacks {', '.join(missing)}", schema.STAGE)
    try:
        return schema.model_validate_json(json.dumps(content))
    except ValidationError as error:
        problem = ": ".join(filter(None, _first_problem(error)))
        raise DamagedArtifact(path, f"is wrong: {problem}", schema.STAGE) from error


def read_bytes(path: Path, limit: int, stage: str) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedArtifact: it is something else, or larger.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DamagedArtifact(path, "is not a regular file", stage)
            data = file.read(min(found.st_size, limit) + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; {remedy(stage, 'first')}") from None
    except OSError as error:  # a folder, a loop of symbolic links, a file where a folder should be
        raise DamagedArtifact(path, f"cannot be read ({error.strerror})", stage) from error
    except MemoryError:
        raise DamagedArtifact(path, f"of {found.st_size:,} bytes is too large", stage) from None
    if len(data) > limit:
        raise DamagedArtifact(path, f"is larger than {limit:,} bytes", stage)
    return data


def pending(path: Path, checksum: str) -> Path:
    """Return the name of a new file until the record that describes it is in place."""
    return path.with_name(f".{path.name}.{checksum[:16]}")


def current(path: Path, checksum: str) -> Path:
    """Return the name under which the file that a record describes lies."""
    waiting = pending(path, checksum)
    return waiting if waiting.is_file() else path


def settle(path: Path, checksum: str) -> None:
    """Give a file its own name, if it still has the pending one."""
    waiting = pending(path, checksum)
    if waiting.exists():
        os.replace(waiting, path)
        waiting.unlink(missing_ok=True)  # a hard link to `path` is not renamed (rename(2))


def write_described(folder: Path, record: str, facts: bytes, file: str, data: bytes) -> None:
    """Replace a record and the file that it describes.

    Args:
        folder: where both lie.
        record, facts: name and content of the record.
        file, data: name and content of the other file.

    Raises:
        OSError: a file cannot be written; what was there before can still be read.
    """
    checksum = sha256(data).hexdigest()
    atomic_write(pending(folder / file, checksum), data)
    atomic_write(folder / record, facts)
    settle(folder / file, checksum)


def read_described(path: Path, checksum: str, size: int, record: str, stage: str) -> bytes:
    """Return the content of the file that a record describes.

    Args:
        path: the file.
        checksum, size: its sha256 and bytes, from the record.
        record: the record's name.
        stage: that writes both.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedArtifact: it is another one.
    """
    data = read_bytes(current(path, checksum), size, stage)
    if len(data) != size or sha256(data).hexdigest() != checksum:
        problem = f"is not the file that {record} describes (sha256 differs)"
        raise DamagedArtifact(path, problem, stage)
    return data


def to_tensors(data: bytes, path: Path, stage: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file's content.

    Raises:
        DamagedArtifact: it is no such content, or a number is NaN or infinite.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DamagedArtifact(path, f"is damaged ({error})", stage) from error
    if wrong := not_finite(tensors):
        raise DamagedArtifact(path, f"holds NaN or infinity in {wrong}", stage)
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of a tensor with NaN or infinity; None if all numbers are finite."""
    found = (name for name, tensor in tensors.items() if not tensor.isfinite().all())
    return next(found, None)


@contextmanager
def reading(path: Path, stage: str) -> Iterator[None]:
    """Turn an error about what a file holds into one about the file.

    Raises:
        DamagedArtifact: in place of an error about a value, a network, or memory.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, MemoryError, OverflowError) as error:
        problem = str(error).partition("\n")[0] or type(error).__name__
        raise DamagedArtifact(path, f"is wrong: {problem}", stage) from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer does not wait for one."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parsed(path: Path, stage: str) -> dict[str, Any]:
    data = read_bytes(path, LARGEST_RECORD, stage)
    try:
        content = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:  # of JSON, of the text's encoding, of its depth
        problem = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DamagedArtifact(path, f"is damaged ({problem})", stage) from error
    if not isinstance(content, dict):
        raise DamagedArtifact(path, f"holds a {type(content).__name__}, not an object", stage)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return content


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number of JSON")


def _plain(value: Any) -> Any:
    """A number or array of NumPy's or torch's as Python's numbers; a text for anything else."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _missing(content: Mapping[str, Any], schema: type[Config], prefix: str = "") -> Iterator[str]:
    """Required keys that are missing, such as ``scheme.weight_bits``."""
    for name, field in schema.model_fields.items():
        part = content.get(name)
        if name not in content and (field.is_required() or field.default is not None):
            yield prefix + name
        elif is_config(field.annotation) and isinstance(part, dict):
            yield from _missing(part, field.annotation, f"{prefix}{name}.")


def _first_problem(error: ValidationError) -> tuple[str, str]:
    """The key that the first of pydantic's errors is about, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    place = dotted(first["loc"])
    if isinstance(cause, InvalidArgument):
        return dotted([*first["loc"], cause.argument]), cause.problem
    if first["type"] == "extra_forbidden":
        return place, "unknown"
    value = shown(first["input"])
    value = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"
    return place, f"{first['msg'][:1].lower()}{first['msg'][1:]}; got {value}"
