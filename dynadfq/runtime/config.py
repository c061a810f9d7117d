"""How groups of settings are written: frozen classes whose fields say what they mean and where
defaults come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

PAPER = "DynaDFQ"  # numbered as in the ICLR 2024 submission
LINEAGE = "lineage"  # what the released code of IntraQ, HAST and SynQ shares


class Config(BaseModel):
    """A group of ``params.yaml``: unknown keys are errors, nothing is converted, nothing changes
    after loading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def setting(
    default: Any,
    meaning: str,
    *,
    source: str = "dynadfq",
    unit: str = "",
    allowed: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    items: str = "",
    **constraints: Any,
) -> Any:
    """A field with what a reader of ``docs/params.md`` and of an error message needs.

    Args:
        default: the value of a key that is left out.
        meaning: one sentence on what the number does.
        source: paper and equation or section, "lineage", or "dynadfq" for a choice of this library.
        unit: images, steps, bits, pixels, nats, a fraction …; empty where there is none.
        allowed: the permitted values in words, where type and bounds do not tell.
        ge, gt, le: bounds; ``gt`` leaves the bound itself out.
        items: the interval of a list's elements.
        constraints: anything else that ``pydantic.Field`` knows.
    """
    extra: JsonDict = {
        "unit": unit,
        "source": source,
        "allowed": allowed,
        "interval": items or interval(ge, gt, le),
    }
    return Field(
        default, description=meaning, json_schema_extra=extra, ge=ge, gt=gt, le=le, **constraints
    )


def interval(ge: float | None = None, gt: float | None = None, le: float | None = None) -> str:
    """The permitted numbers in words.

    >>> interval(ge=2, le=8), interval(ge=1), interval(gt=0, le=1)
    ('2 … 8', '1 … ∞', '0 … 1 (not 0)')
    """
    low = ge if gt is None else gt
    if low is None:
        return ""
    return f"{low:g} … {'∞' if le is None else format(le, 'g')}" + (
        f" (not {gt:g})" if gt is not None else ""
    )


def note(field: FieldInfo, name: str) -> str:
    """What ``setting`` was told about a field: ``unit``, ``source``, ``allowed`` or
    ``interval``.
    """
    extra = field.json_schema_extra
    return str(extra.get(name, "")) if isinstance(extra, dict) else ""


def is_config(kind: object) -> TypeGuard[type[Config]]:
    """Whether a field's annotation is a nested group."""
    return isinstance(kind, type) and issubclass(kind, Config)


def leaves(section: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key under a group with its field, in the order in which they are written."""
    for name, field in section.model_fields.items():
        if is_config(field.annotation):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The names that a field, or an element of its list, may take, where it takes names."""
    kind = (
        get_args(field.annotation)[0] if get_origin(field.annotation) is tuple else field.annotation
    )
    return get_args(kind) if get_origin(kind) is Literal else ()


def allowed(field: FieldInfo) -> str:
    """The permitted values of a field in words, such as "a whole number in 2 … 8" or "one of max,
    mse".
    """
    if words := note(field, "allowed"):
        return words
    if names := choices(field):
        return f"one of {', '.join(names)}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    members = get_args(field.annotation) or (field.annotation,)
    text = next(words for kind, words in kinds.items() if kind in members)
    bounds = note(field, "interval")
    return (
        ("null or " if type(None) in members else "") + text + (f" in {bounds}" if bounds else "")
    )
