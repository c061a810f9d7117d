"""``docs/params.md``: a table of every key, made from the types so that the two agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import getdoc

from dynadfq.graph.config import FLOAT_BITS
from dynadfq.methods import METHODS
from dynadfq.methods.schedules import SCHEDULES
from dynadfq.params.oddities import ODDITIES, WITHOUT_FLOAT, WITHOUT_INTEGER
from dynadfq.params.rules import RULES
from dynadfq.params.sections import PARTS, Params
from dynadfq.runtime.config import Config, allowed, is_config, note
from dynadfq.runtime.errors import shown

HEAD = """# Parameters

Made by `python -m dynadfq.params docs` from the settings that each package declares in its
`config.py`, and from `dynadfq/methods`: edit those.

`params.yaml` is the active experiment, `configs/` has ready ones;
`python -m dynadfq.params use cifar10` takes one. A file holds what differs from the defaults below,
which are the paper's CIFAR-10 experiment (`configs/cifar10.yaml`). DVC follows only what stands in
the file, so that each group stands in it, `similarity: {}` where nothing differs.
`dvc exp run --temp -S key=value` changes a key of the file in a copy; `-S +key=value` adds one that
is not in it.
Unknown keys and wrong values are errors, all reported at once: by `dynadfq check`, and by the first
stage of `dvc repro`.

The file is YAML 1.2, as DVC reads it: `true` and `false` are the only truth values (`yes`, `no` and
`on` are text), `010` is ten and `0o10` eight, `1e-6` is a number, dates are text.

Sources: "DynaDFQ" is the paper, numbered as in its ICLR 2024 submission; "lineage" is what the
released code of IntraQ, HAST and SynQ does, whose fine-tuning the paper seems to share; "dynadfq"
is a choice of this library.
"""
ODD = """
Where these do not hold, `dynadfq check` notes it, and the experiment runs:
"""
COLUMNS = (
    "| key | meaning | unit | default | allowed | source |\n| --- | --- | --- | --- | --- | --- |\n"
)


def render() -> str:
    """Return the whole document."""
    idle = {
        f"quantization.target_bits: {FLOAT_BITS}": WITHOUT_FLOAT,
        "quantization.scheme: integer": WITHOUT_INTEGER,
    }
    others = [rule for rule in ODDITIES if not any(rule in some for some in idle.values())]
    rules, odd = (
        [f"- {_listed(rule.keys)}: {rule.requirement}" for rule in some] for some in (RULES, others)
    )
    odd += [
        f"- with `{value}`, these keys are at their defaults: "
        + ", ".join(f"`{rule.keys[0]}`" for rule in some)
        for value, some in idle.items()
    ]
    sections = [_section(Params, ""), *_sections(Params), *_methods()]
    return "\n".join([HEAD, *sections, "## Between keys\n", *rules, ODD, *odd, ""])


def _methods() -> Iterator[str]:
    """Yield the hyperparameters of each method, its presets and its published schedules."""
    for name, method in METHODS.items():
        yield f"## method.name: {name}\n\n{getdoc(method)}\n"
        for preset, groups in method.presets.items():
            values = (
                f"{group}.{key}: {shown(value)}"
                for group, content in groups.items()
                for key, value in content.items()
            )
            yield f"Preset `{preset}`: {', '.join(values)}.\n"
        for preset, published in SCHEDULES.get(name, {}).items():
            values = (f"{key}: {shown(value)}" for key, value in published.items())
            yield f"Published schedule, `{preset}`: {', '.join(values)}.\n"
        for part in PARTS:
            kind = type(getattr(method(), part))
            yield _section(kind, f"method.{part}", "###")


def _listed(keys: Sequence[str]) -> str:
    *others, last = (f"`{key}`" for key in keys)
    return f"{', '.join(others)} and {last}"


def _sections(section: type[Config], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if is_config(field.annotation) and field.annotation.model_fields:
            yield _section(field.annotation, prefix + name)
            yield from _sections(field.annotation, f"{prefix}{name}.")


def _section(section: type[Config], path: str, level: str = "##") -> str:
    rows = [
        _row(path, name, section)
        for name, field in section.model_fields.items()
        if not is_config(field.annotation)
    ]
    title = f"{level} {path or 'Top level'}\n\n{getdoc(section)}\n"
    return f"{title}\n{COLUMNS}{''.join(rows)}" if rows else title


def _row(path: str, name: str, section: type[Config]) -> str:
    field = section.model_fields[name]
    key = f"{path}.{name}".removeprefix(".")
    cells = [
        f"`{key}`",
        field.description,
        note(field, "unit"),
        f"`{shown(field.default)}`",
        allowed(field).removeprefix("a ").removeprefix("one of "),
        note(field, "source"),
    ]
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |\n"
