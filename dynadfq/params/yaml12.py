"""YAML as DVC writes it: ``1e-06`` is a number, and a key stands once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from dynadfq.params.errors import ParameterError

FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which knows YAML 1.1, with the exponents of YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose keys differ.

        Raises:
            ConstructorError: a key is given twice.
        """
        found = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in found:
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{key.value}` is given twice", key.start_mark
                )
            found.add(key.value)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def read_yaml(path: str | Path, missing: str) -> Any:
    """Return a file's content.

    Args:
        path: the file.
        missing: advice for when it does not exist.

    Raises:
        ParameterError: the file does not exist or is not YAML.
    """
    try:
        return yaml.load(Path(path).read_bytes(), Loader)
    except FileNotFoundError:
        raise ParameterError(path, [f"the file does not exist; {missing}"]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ParameterError(path, [f"not valid YAML{place}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ParameterError(path, [f"not valid YAML: {error}"]) from None
