"""Class files: which class of a network each name is."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from dynadfq.runtime.errors import InvalidArgument, shown

WORDNET_ID = re.compile(r"n\d{8}\s")


def read_classes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the classes of each name from a file: one, unless the file repeats the name.

    Args:
        path: a text file with one name per line or a JSON list, in the order of classes, or
            ImageNet's ``synset_words.txt`` with lines like "n01440764 tench, Tinca tinca", where
            the WordNet id counts; a JSON mapping of names to classes; or ImageNet's
            ``class_index.json``, ``{"0": ["n01440764", "tench"], …}``, where each of the two names
            counts.

    Raises:
        ValueError: the file holds none of these.
        FileNotFoundError: there is no such file.
    """
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a byte order mark
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            "class_file", f"{path} is not encoded in UTF-8 ({error.reason}); save it as UTF-8"
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if all(WORDNET_ID.match(line) for line in lines):
        lines = [line.split()[0] for line in lines]
    content: object = lines
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text, object_pairs_hook=_unrepeated)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidArgument("class_file", f"{path} is not valid JSON ({error})") from error
    pairs = _pairs(content)
    if not pairs:
        raise InvalidArgument(
            "class_file",
            f"{path} has neither one name per line, nor JSON of the form ['tench', …], "
            "{'tench': 0, …} or {'0': ['n01440764', 'tench'], …}",
        )
    classes: dict[str, tuple[int, ...]] = {}
    for name, number in pairs:
        classes[name] = (*classes.get(name, ()), number)
    return classes


def require_file(path: Path) -> None:
    """Check that there is such a file.

    Raises:
        FileNotFoundError: there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"class_file: {path}: no such file")


def _unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; of a repeated name, Python would keep the last class without a word."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise InvalidArgument(
                "class_file", f"{shown(name)} stands in it {count} times; leave one of them"
            )
    return dict(pairs)


def _pairs(content: object) -> list[tuple[str, int]]:
    """Pairs (name, class) from any of the forms; empty for anything else."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(name, number) for number, name in enumerate(content)]
    if not isinstance(content, dict):
        return []
    if all(type(number) is int for number in content.values()):
        return list(content.items())
    if all(key.isdecimal() and isinstance(names, list) for key, names in content.items()):
        return [
            (name, int(key))
            for key, names in content.items()
            for name in dict.fromkeys(map(str, names))
        ]
    return []
