"""Which class of a network each class of a data set is: by name, by a file that says so, or by
order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class ClassOrder:
    """The network's class for each class of a data set.

    numbers: one a class of the data set, in its order.
    words: how they were found, for the report.
    assumed: whether nothing but the order and the count speaks for them.
    """

    numbers: tuple[int, ...]
    words: str
    assumed: bool = False

    @classmethod
    def own(cls, count: int) -> ClassOrder:
        """The data set's own classes."""
        return cls(tuple(range(count)), "its own")


def class_order(
    names: Sequence[str], class_names: Sequence[str], given: Mapping[str, int] | None = None
) -> ClassOrder:
    """Match the sorted ``names`` of folders with the ``class_names`` of a network; ``given``
    numbers win.

    Names are compared without regard to case, and an underscore is a blank. A part of the network's
    classes will do.

    >>> class_order(["cat", "horse"], ["horse", "dog", "cat"]).numbers
    (2, 0)
    >>> class_order(["n01440764", "n01443537"], ["tench", "goldfish"]).words
    "sorted folder names, taken to be the teacher's classes in order; first n01440764 = tench"

    Raises:
        ValueError: a name has no class; or no name is the network's, and the counts differ.
    """
    if given is not None:
        return ClassOrder(_given(names, given, len(class_names)), "as data.classes says")
    theirs = [_plain(name) for name in class_names]
    unknown = [name for name in names if _plain(name) not in theirs]
    if not unknown:
        return ClassOrder(
            _by_name(names, theirs),
            f"by name, {len(names)} of the teacher's {len(class_names)} classes",
        )
    if len(unknown) < len(names):
        raise ValueError(
            f"data.root: {len(unknown)} of {len(names)} class folders have no class of the teacher by that name: "
            f"{_some(unknown)}; name the folders as its classes, or give data.classes a file that says which is which"
        )
    if len(names) != len(class_names):
        raise ValueError(
            f"data.root: {len(names)} class folders ({_some(names)}) for the teacher's {len(class_names)} classes "
            f"({_some(class_names)}), and no name in common; give data.classes a file that says which is which"
        )
    first = f"first {names[0]} = {class_names[0]}"
    words = f"sorted folder names, taken to be the teacher's classes in order; {first}"
    return ClassOrder(tuple(range(len(names))), words, assumed=True)


def read_classes(path: Path) -> dict[str, int]:
    """Names with the class each stands for: a text file or JSON list in order, JSON numbers, or
    class_index.json.

    ImageNet's class_index.json is ``{"0": ["n01440764", "tench"], …}``: either name will do, unless
    two classes share it.

    Raises:
        ValueError: the file holds none of these.
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data.classes: {path}: no such file")
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() != ".json":
        content: object = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"data.classes: {path} is not valid JSON ({error})") from error
    pairs = _pairs(content)
    if not pairs:
        raise ValueError(
            f"data.classes: {path} is neither a name a line, nor JSON of the form ['tench', …], {{'tench': 0, …}} or "
            "{'0': ['n01440764', 'tench'], …}"
        )
    often = Counter(name for name, _ in pairs)
    return {name: number for name, number in pairs if often[name] == 1}


def _pairs(content: object) -> list[tuple[str, int]]:
    """(name, class) pairs of any of the forms; none where it is something else."""
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


def _given(names: Sequence[str], given: Mapping[str, int], classes: int) -> tuple[int, ...]:
    absent = [name for name in names if name not in given]
    if absent:
        raise ValueError(
            f"data.classes: it says nothing of {len(absent)} class folders: {_some(absent)}; add them"
        )
    outside = [f"{name} = {given[name]}" for name in names if not 0 <= given[name] < classes]
    if outside:
        raise ValueError(
            f"data.classes: {_some(outside)}: the teacher's classes are 0 … {classes - 1}"
        )
    return tuple(given[name] for name in names)


def _by_name(names: Sequence[str], theirs: Sequence[str]) -> tuple[int, ...]:
    twice = [name for name in names if theirs.count(_plain(name)) > 1]
    if twice:
        raise ValueError(
            f"data.root: the teacher has more than one class named {_some(twice)}; give data.classes a file that says "
            "which class each folder is"
        )
    return tuple(theirs.index(_plain(name)) for name in names)


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
