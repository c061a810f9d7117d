"""Adding the keys that a parameter file lacks, such as those of a new method; what stands in it
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from dynadfq.params.sections import Params
from dynadfq.params.yaml12 import Loader

Key = tuple[str, ...]


def completed(text: str, params: Params) -> str:
    """The file's text with every missing key at the end of its group, at its default."""
    lines = text.splitlines()
    for key, value in _missing(yaml.load(text, Loader), params.model_dump(mode="json")):
        place = _end_of_block(lines, key[:-1])
        last = lines[place - 1]
        if len(key) > 1 and last.startswith(
            f"{'  ' * (len(key) - 2)}{key[-2]}: {{"
        ):  # the group is on one line
            lines[place - 1] = f"{last.removesuffix('}')}, {key[-1]}: {_flow(value)}}}"
        else:
            lines[place:place] = list(_written(key[-1], value, len(key) - 1))
    return "\n".join(lines) + "\n"


def _missing(
    content: dict[str, Any], complete: dict[str, Any], group: Key = ()
) -> Iterator[tuple[Key, Any]]:
    for name, value in complete.items():
        if name not in content:
            yield (*group, name), value
        elif isinstance(value, dict):
            yield from _missing(content[name], value, (*group, name))


def _end_of_block(lines: list[str], group: Key) -> int:
    """Where the lines of a group end: behind the last one that is indented deeper than its name."""
    end = start = 0
    for depth, name in enumerate(group):
        start = next(
            i for i in range(end, len(lines)) if lines[i].startswith(f"{'  ' * depth}{name}:")
        )
        end = start + 1
    inner = "  " * len(group)
    behind = (
        i
        for i in range(start + 1, len(lines))
        if lines[i].strip() and not lines[i].startswith(inner)
    )
    end = next(behind, len(lines)) if group else len(lines)
    while not lines[end - 1].strip():
        end -= 1
    return end


def _written(name: str, value: Any, depth: int) -> Iterator[str]:
    """A group of groups a line each, and a group of values on one line."""
    indent = "  " * depth
    if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
        yield f"{indent}{name}:"
        for inner, content in value.items():
            yield from _written(inner, content, depth + 1)
    else:
        yield f"{indent}{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("...\n").strip()
