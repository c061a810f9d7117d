"""Reading and writing of an artifact's record: JSON with a schema.

What is read may be damaged, edited by hand, or from anyone. Sizes are bounded, and JSON is checked
against the record's schema. Whatever is wrong is one sentence that names the file and the stage
that makes it again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field, ValidationError

from dynadfq.runtime.config import Config, is_config
from dynadfq.runtime.errors import InvalidArgument, dotted, shown

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
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is listed twice")
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
