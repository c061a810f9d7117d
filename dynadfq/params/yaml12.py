"""YAML as DVC reads and writes it, and a key stands once.

The rules are those of YAML 1.2's core schema, and digits may be grouped by underscores: ``1e-06``
is a number, ``010`` is ten, ``0o10`` is eight; ``yes``, ``on`` and dates are text. ``true`` and
``false`` alone are truth values (also ``True``, ``TRUE``); ``null``, ``~`` and nothing are null.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from dynadfq.params.errors import ParameterError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50  # levels of groups and lists
MAX_VALUES = 100_000  # in a file, counted again wherever an alias repeats them

BOOLEAN = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
NULL = re.compile(r"(?:~|null|Null|NULL|)$")
INTEGER = re.compile(r"(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$")
FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
BASES = {"0o": 8, "0x": 16}


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which knows YAML 1.1, with the rules of YAML 1.2."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.depth = 0
        self.values = 0
        self.open: set[str] = set()  # anchors whose content is being read
        self.sizes: dict[str, int] = {}  # values under each anchor

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node of a tree that is finite and of bounded size.

        Raises:
            ComposerError: it is not.
        """
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor = event.anchor
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.open:
                _refuse(f"the alias *{anchor} stands within what it names", event)
            self.values += self.sizes.get(anchor, 0)
        elif anchor is not None:
            self.open.add(anchor)
        before = self.values
        self.values += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            _refuse(f"groups are nested deeper than {MAX_DEPTH} levels", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if self.values > MAX_VALUES:
            _refuse(f"the file holds more than {MAX_VALUES} values", event)
        if anchor is not None and not isinstance(event, yaml.AliasEvent):
            self.open.remove(anchor)
            self.sizes[anchor] = self.values - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a node's value.

        Raises:
            ConstructorError: the node is not what its tag says, or a text has characters that
                cannot be written to a file.
        """
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # half of a surrogate pair is no character
                if "\0" in value:
                    raise ValueError("no file name holds NUL")
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            kind = node.tag.rpartition(":")[2]
            problem = f"{ascii(node.value)[:80]} is no value of the type !!{kind}"
            raise _error(problem, node) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose keys are texts that differ.

        Raises:
            ConstructorError: a key is given twice, or is no text.
        """
        found = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("found unhashable key", key)
            if key.tag not in TEXTS:
                raise _error(f"the key {key.value or '(nothing)'} is no text; write quotes", key)
            if key.value in found:
                raise _error(f"`{key.value}` is given twice", key)
            found.add(key.value)
        return super().construct_mapping(node, deep)


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _refuse(problem: str, event: Any) -> None:
    raise yaml.composer.ComposerError(None, None, problem, event.start_mark)


def _integer(loader: Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    base = BASES.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's
Loader.add_implicit_resolver("tag:yaml.org,2002:null", NULL, ["~", "n", "N", ""])
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", BOOLEAN, list("tTfF"))
Loader.add_implicit_resolver("tag:yaml.org,2002:int", INTEGER, list("-+0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<$"), ["<"])
Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def read_yaml(path: str | Path, missing: str) -> Any:
    """Return a file's content.

    Args:
        path: the file.
        missing: advice for when it does not exist.

    Raises:
        ParameterError: the file cannot be read, is too large, or is not YAML.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ParameterError(path, [f"the file does not exist; {missing}"]) from None
    except OSError as error:
        raise ParameterError(path, [f"the file cannot be read: {error.strerror}"]) from None
    if len(data) > MAX_BYTES:
        problem = f"the file has more than {MAX_BYTES} bytes, and is no parameter file"
        raise ParameterError(path, [problem])
    try:
        return yaml.load(data, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ParameterError(path, [f"not valid YAML{place}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ParameterError(path, [f"not valid YAML: {problem}"]) from None
    except (ValueError, TypeError):  # PyYAML's constructors of !!set, !!map and others
        problem = "a tag (!!…) does not fit its value; leave it out"
        raise ParameterError(path, [f"not valid YAML: {problem}"]) from None
