"""YAML as DVC reads and writes it: version 1.2, where ``1e-06`` is a number and ``yes`` is a
word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from dynadfq.params.errors import ParameterError
from dynadfq.runtime.errors import dotted

# The core schema of YAML 1.2 (section 10.3.2), and the merge key `<<`, which dvc.yaml may use.
SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": (r"<<", "<"),
}


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _whole_number(loader: Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


for _name, (_pattern, _first) in SCALARS.items():
    # An empty scalar is looked up under "" by PyYAML.
    Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}",
        re.compile(f"^(?:{_pattern})$"),
        [c.strip("\0") for c in _first],
    )
Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def read_yaml(path: str | Path, missing: str) -> tuple[object, list[str]]:
    """A file's content and a line for each key that it gives twice.

    Raises:
        ParameterError: the file is not there (``missing`` is the advice then) or is not YAML.
    """
    try:
        loader = Loader(Path(path).read_bytes())
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except FileNotFoundError:
        raise ParameterError(path, [f"the file does not exist; {missing}"]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ParameterError(path, [f"not valid YAML{place}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ParameterError(path, [f"not valid YAML: {error}"]) from None
    return content, list(_repeated(node))


def _repeated(node: yaml.Node | None, path: tuple[int | str, ...] = ()) -> Iterator[str]:
    """A line for each mapping key below ``node`` that stands there twice."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                yield f"{dotted((*path, name))}: given twice, on lines {first[name]} and {line}"
            first.setdefault(name, line)
            yield from _repeated(value, (*path, name))
