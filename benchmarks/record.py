"""``python -m benchmarks.record save|restore``: the active grid's measurements as one file for git.

``save`` writes benchmarks/records/GRID.jsonl, a line for each student that was measured: its
evaluation and that of its controls, with the test images that it takes for another class, and what
it and its images cost.
``restore`` gives them back to ``benchmarks/artifacts`` on another machine, where
``python -m benchmarks.run --missing`` goes on with the rest and ``python -m benchmarks.table``
draws the tables and tests the claims.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import ARTIFACTS, NO_GRID, controls_of, cost_of, evaluation_of, read_cells
from benchmarks.settings import checked
from dynadfq.runtime.resume import atomic_write
from stages.artifacts import write_json

RECORDS = Path("benchmarks/records")
PLACES = ("root", "checkpoint", "weights")  # paths, which differ by machine
PACKED = ("wrong", "control_wrong")  # places among the test images

Content = Mapping[str, Any]
Line = dict[str, Any]


def settings(content: Content, student: str) -> Line:
    """Return what a student and its images are made with, and how it is measured, without paths."""
    entry = content["students"][student]
    images = entry["images"]
    made = content["images"].get(images) or content["labelled"][images]
    kept: Line = _portable({"student": entry, "images": made, "evaluation": content["evaluation"]})
    return kept


def _portable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _portable(found) for key, found in value.items() if key not in PLACES}
    return [_portable(found) for found in value] if isinstance(value, list) else value


def _completed(value: Any) -> Any:
    """Return settings whose parameters are completed with defaults, and the errors found in them.

    What was recorded before a parameter existed then equals what is made with its default. It does
    not equal what is made with a preset's value.
    """
    if not isinstance(value, Mapping):
        return value
    return {
        key: _parameters(found) if key == "params" else _completed(found)
        for key, found in value.items()
    }


def _parameters(document: Line) -> Any:
    """Return a preset's name, and all parameters without its values."""
    own = deepcopy(document)
    preset = own.get("method", {}).pop("preset", None)
    return preset, checked(own)


def pack(places: list[int], count: int) -> str:
    """Return places among ``count`` images as text, one bit for each image.

    >>> unpack(pack([0, 9], 10), 10)
    [0, 9]
    """
    bits = np.zeros(count, dtype=bool)
    bits[places] = True
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpack(text: str, count: int) -> list[int]:
    """Return the places that ``pack`` was given."""
    packed = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return [int(place) for place in np.unpackbits(packed, count=count).nonzero()[0]]


def read(path: Path) -> dict[str, Line]:
    """Return the lines of a record by student; none if it does not exist."""
    if not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {line["student"]: line for line in lines}


def save(content: Content, path: Path, folder: Path = Path(".")) -> int:
    """Write what was measured; return the number of students.

    A line of an earlier record is kept where this folder has no evaluation of the student, and
    settings and teacher are still the same; so are its controls where this folder has none and the
    evaluation is the same.
    """
    lines = read(path)
    for student in content["students"]:
        evaluation = _json(folder / evaluation_of(student))
        weights = _weights(content, student, folder)
        if evaluation is not None and weights is not None:  # without a teacher it was restored
            before = lines.get(student)
            lines[student] = line = _line(content, student, weights, evaluation, folder)
            if before is not None and before["evaluation"] == line["evaluation"]:
                # It may have been restored before another teacher was made, and is of its own.
                lines[student] = before | line | {"teacher": before["teacher"]}
    current = [
        line | {"settings": settings(content, line["student"])}
        for line in lines.values()
        if _is_current(content, line, folder)
    ]
    order = {student: place for place, student in enumerate(content["students"])}
    current.sort(key=lambda line: order[line["student"]])
    text = "".join(json.dumps(line) + "\n" for line in current)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.encode())
    return len(current)


def restore(content: Content, path: Path, folder: Path = Path(".")) -> int:
    """Write the evaluations and costs that are not there; return the number of evaluations.

    A line is passed over if the settings have changed since, or the teacher that is there has other
    weights; a parameter of images or student that was added since has to be at its default. The
    state of the library is not compared.
    """
    restored = 0
    for student, line in read(path).items():
        target, controls = folder / evaluation_of(student), folder / controls_of(student)
        if not _is_current(content, line, folder):
            continue
        evaluation = _unpacked(line["evaluation"])
        if "controls" in line and not controls.exists() and _json(target) in (None, evaluation):
            write_json(controls, _unpacked(line["controls"]))
        if target.exists():
            continue
        write_json(target, evaluation)
        keys = {"images": content["students"][student]["images"], "students": student}
        for group, key in keys.items():
            cost = folder / cost_of(group, key)
            if line["costs"][group] is not None and not cost.exists():
                write_json(cost, line["costs"][group])
        restored += 1
    return restored


def remove_outdated(before: Content, after: Content, folder: Path = Path(".")) -> int:
    """Remove what was measured with other settings of the same name; return how many students.

    DVC brings it back from its cache when the settings return.
    """
    removed = 0
    for student in after["students"]:
        if student not in before["students"]:
            continue
        old, new = _completed(settings(before, student)), _completed(settings(after, student))
        if old == new:
            continue
        paths = [evaluation_of(student), controls_of(student)]
        if old["images"] != new["images"]:
            paths.append(cost_of("images", after["students"][student]["images"]))
        if (old["images"], old["student"]) != (new["images"], new["student"]):
            paths.append(cost_of("students", student))
        removed += (folder / evaluation_of(student)).exists()
        for path in paths:
            (folder / path).unlink(missing_ok=True)
    return removed


def _line(
    content: Content, student: str, weights: str, evaluation: dict[str, Any], folder: Path
) -> Line:
    images = content["students"][student]["images"]
    controls = _json(folder / controls_of(student))
    return {
        "student": student,
        "settings": settings(content, student),
        "teacher": weights,
        "evaluation": _packed(evaluation),
        **({} if controls is None else {"controls": _packed(controls)}),
        "costs": {
            "images": _json(folder / cost_of("images", images)),
            "students": _json(folder / cost_of("students", student)),
        },
    }


def _packed(measured: dict[str, Any]) -> dict[str, Any]:
    return _converted(measured, pack, measured["test_images"])


def _unpacked(measured: dict[str, Any]) -> dict[str, Any]:
    return _converted(measured, unpack, measured["test_images"])


def _converted(measured: dict[str, Any], convert: Callable[..., Any], count: int) -> dict[str, Any]:
    """Return what was measured with all places of wrong images converted."""
    converted = {}
    for name, value in measured.items():
        if name in PACKED:
            value = convert(value, count)
        elif isinstance(value, dict):
            value = _converted(value, convert, count)
        converted[name] = value
    return converted


def _is_current(content: Content, line: Line, folder: Path) -> bool:
    """Whether a line is of this grid's settings, and of the teacher that is there, if one is."""
    student = line["student"]
    if student not in content["students"]:
        return False
    same = _completed(line["settings"]) == _completed(settings(content, student))
    return same and _weights(content, student, folder) in (None, line["teacher"])


def _weights(content: Content, student: str, folder: Path) -> str | None:
    """The digest of the weights of a student's teacher; None where there is no teacher."""
    teacher = content["students"][student]["teacher"]
    found = _json(folder / ARTIFACTS / "teachers" / teacher / "teacher.json")
    return None if found is None else str(found["sha256"])


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main(words: list[str] | None = None) -> None:
    """Save or restore, and say how many students."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description=__doc__)
    parser.add_argument("action", choices=("save", "restore"))
    action = parser.parse_args(words).action
    content = read_cells()
    if not content["reports"]:
        sys.exit(NO_GRID)
    path = RECORDS / f"{content['grid']}.jsonl"
    count = save(content, path) if action == "save" else restore(content, path)
    print(f"{path}: {count} of {len(content['students'])} students")


if __name__ == "__main__":
    main()
