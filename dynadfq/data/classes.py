"""Matching of a data set's classes with a network's: by name, by a file, or by order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynadfq.runtime.errors import InvalidArgument

LISTED = 3  # names in an error message


@dataclass(frozen=True)
class ClassOrder:
    """The network's class for each class of a data set."""

    indices: tuple[int, ...]  # the network's class per class of the data set
    origin: str  # how they were found, as text for the report
    assumed: bool = False  # whether they were matched by order and count alone


def class_order(
    names: Sequence[str], class_names: Sequence[str], given: Mapping[str, int] | None = None
) -> ClassOrder:
    """Match the classes of a data set with those of a network.

    Names are compared without regard to case and underscores. The data set may have a part of the
    network's classes.

    Args:
        names: sorted names of the data set's class folders.
        class_names: the network's.
        given: the network's class by folder name, instead of a match.

    >>> class_order(["cat", "horse"], ["horse", "dog", "cat"]).indices
    (2, 0)
    >>> class_order(["n01440764", "n01443537"], ["tench", "goldfish"]).origin
    "sorted folder names, taken to be the teacher's classes in order; first n01440764 = tench"

    Raises:
        ValueError: a folder has no class; or no name matches and the counts differ.
    """
    if given is not None:
        return ClassOrder(_given(names, given, len(class_names)), "as data.classes says")
    known = [_normalized(name) for name in class_names]
    unknown = [name for name in names if _normalized(name) not in known]
    if not unknown:
        origin = f"by name, {len(names)} of the teacher's {len(class_names)} classes"
        return ClassOrder(_by_name(names, known), origin)
    if len(unknown) < len(names):
        raise InvalidArgument(
            "root",
            f"{len(unknown)} of {len(names)} class folders have no class of the teacher by "
            f"that name: {_some(unknown)}; name the folders as its classes, or list the classes in "
            "a class file",
        )
    if len(names) != len(class_names):
        raise InvalidArgument(
            "root",
            f"{len(names)} class folders ({_some(names)}) for the teacher's "
            f"{len(class_names)} classes ({_some(class_names)}), and no name in common; list the "
            "classes in a class file",
        )
    return ClassOrder(
        tuple(range(len(names))),
        "sorted folder names, taken to be the teacher's classes in order; "
        f"first {names[0]} = {class_names[0]}",
        assumed=True,
    )


def read_classes(path: Path) -> dict[str, int]:
    """Read the class of each name from a file.

    Args:
        path: a text file with one name per line or a JSON list, in the order of classes; a JSON
            mapping of names to classes; or ImageNet's ``class_index.json``,
            ``{"0": ["n01440764", "tench"], …}``, where each of the two names counts unless two
            classes share it.

    Raises:
        ValueError: the file holds none of these.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"class_file: {path}: no such file")
    text = path.read_text(encoding="utf-8")
    content: object = [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidArgument("class_file", f"{path} is not valid JSON ({error})") from error
    pairs = _pairs(content)
    if not pairs:
        raise InvalidArgument(
            "class_file",
            f"{path} has neither one name per line, nor JSON of the form ['tench', …], "
            "{'tench': 0, …} or {'0': ['n01440764', 'tench'], …}",
        )
    occurrences = Counter(name for name, _ in pairs)
    return {name: number for name, number in pairs if occurrences[name] == 1}


def _pairs(content: object) -> list[tuple[str, int]]:
    """Pairs (name, class) from any of the forms; empty for anything else."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(name, number) for number, name in enumerate(content)]
    if not isinstance(content, dict):
        return []
    if all(isinstance(number, int) for number in content.values()):
        return list(content.items())
    if all(key.isdigit() and isinstance(names, list) for key, names in content.items()):
        return [
            (str(name), int(key)) for key, names in content.items() for name in dict.fromkeys(names)
        ]
    return []


def _given(names: Sequence[str], given: Mapping[str, int], num_classes: int) -> tuple[int, ...]:
    absent = [name for name in names if name not in given]
    if absent:
        raise InvalidArgument(
            "class_file", f"it lacks {len(absent)} class folders: {_some(absent)}; add them"
        )
    outside = [f"{name} = {given[name]}" for name in names if not 0 <= given[name] < num_classes]
    if outside:
        raise InvalidArgument(
            "class_file", f"{_some(outside)}: the teacher's classes are 0 … {num_classes - 1}"
        )
    return tuple(given[name] for name in names)


def _by_name(names: Sequence[str], known: Sequence[str]) -> tuple[int, ...]:
    ambiguous = [name for name in names if known.count(_normalized(name)) > 1]
    if ambiguous:
        raise InvalidArgument(
            "root",
            f"the teacher has more than one class named {_some(ambiguous)}; list the classes "
            "in a class file",
        )
    return tuple(known.index(_normalized(name)) for name in names)


def _normalized(name: str) -> str:
    return name.casefold().replace("_", " ")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
