"""``docs/params.md``: a table of every key, made from the types so that it cannot disagree with
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import getdoc

from dynadfq.params.rules import RULES
from dynadfq.params.sections import Params
from dynadfq.runtime.config import Config, allowed, is_config, note
from dynadfq.runtime.errors import shown

HEAD = """# Parameters

Made by `python -m dynadfq.params docs` from the types in `dynadfq/params` and `dynadfq/methods`: edit those.

`params.yaml` is the active experiment, `configs/` has ready ones; `cp configs/cifar10.yaml params.yaml` takes one.
Unknown keys and wrong values are errors, all reported at once. A key that is left out has the default below, from the
paper's CIFAR-10 experiment (`configs/cifar10.yaml`). Leave none out, though: DVC follows only keys in the file.

Sources: "DynaDFQ" is the paper, numbered as in its ICLR 2024 submission; "lineage" is what the released code
of IntraQ, HAST and SynQ does, whose fine-tuning the paper seems to share; "dynadfq" is a choice of this library.
"""
COLUMNS = (
    "| key | meaning | unit | default | allowed | source |\n| --- | --- | --- | --- | --- | --- |\n"
)


def render() -> str:
    """The whole document."""
    rules = "\n".join(f"- {_listed(rule.keys)}: {rule.requirement}" for rule in RULES)
    sections = [_section(Params, ""), *_sections(Params)]
    return "\n".join([HEAD, *sections, "## Between keys\n", rules, ""])


def _listed(keys: Sequence[str]) -> str:
    *others, last = (f"`{key}`" for key in keys)
    return f"{', '.join(others)} and {last}"


def _sections(section: type[Config], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if is_config(field.annotation):
            yield _section(field.annotation, prefix + name)
            yield from _sections(field.annotation, f"{prefix}{name}.")


def _section(section: type[Config], path: str) -> str:
    rows = [
        _row(path, name, section)
        for name, field in section.model_fields.items()
        if not is_config(field.annotation)
    ]
    title = f"## {path or 'Top level'}\n\n{getdoc(section)}\n"
    return f"{title}\n{COLUMNS}{''.join(rows)}" if rows else title


def _row(path: str, name: str, section: type[Config]) -> str:
    field = section.model_fields[name]
    key = f"{path}.{name}".removeprefix(".")
    words = allowed(field).removeprefix("a ").removeprefix("one of ")
    cells = [
        f"`{key}`",
        field.description,
        note(field, "unit"),
        f"`{shown(field.default)}`",
        words,
        note(field, "source"),
    ]
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"
