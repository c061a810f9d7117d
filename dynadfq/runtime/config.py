"""Declaration of settings: frozen classes whose fields state meaning, unit, range and source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dynadfq.runtime.errors import InvalidArgument, did_you_mean, dotted, shown

PAPER = "DynaDFQ"  # numbered as in the ICLR 2024 submission
LINEAGE = "lineage"  # what the released code of IntraQ, HAST and SynQ shares

# Upper bounds where nothing else bounds a setting: larger values are mistakes that would end in
# an overflow, or take memory or time without end.
MAX_COUNT = 10_000_000  # images, steps, epochs
MAX_BATCH = 100_000  # images in a step
MAX_CLASSES = 100_000
MAX_WIDTH = 16_384  # features of a layer
MAX_SIDE = 8_192  # pixels
MAX_RATE = 100.0  # learning rates
MAX_WEIGHT = 1e6  # of a term in a loss
MAX_SEED = 2**63 - 1
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 1000.0

DEVICE, DEVICES = r"^(auto|cpu|cuda(:\d{1,3})?)$", "one of auto, cpu, cuda, cuda:N"

BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}


class _OneSentence(type(BaseModel)):  # type: ignore[misc]
    """Raises this library's error where ``Config(...)`` would raise pydantic's.

    ``model_validate`` still raises pydantic's, which lists every problem.
    """

    def __call__(cls, **values: Any) -> Any:
        """Return the settings with these values.

        Raises:
            InvalidArgument: one is unknown or wrong; of several, the first in the order given.
        """
        try:
            return super().__call__(**values)
        except ValidationError as error:
            order: list[int | str] = list(values)
            found = error.errors(include_url=False)
            first = min(found, key=lambda one: order.index(one["loc"][0]) if one["loc"] else -1)
            argument, problem = explain(first, cls)
            raise InvalidArgument(argument, problem) from None


if TYPE_CHECKING:
    _Base = BaseModel  # of which a type checker knows how fields become arguments
else:

    class _Base(BaseModel, metaclass=_OneSentence):
        pass


class Config(_Base):
    """A frozen group of settings; unknown names are errors, and no value is converted."""

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
    lt: float | None = None,
    items: str = "",
    **constraints: Any,
) -> Any:
    """Return a field with the metadata for ``docs/params.md`` and error messages.

    Args:
        default: the value of a setting that is left out.
        meaning: one sentence on what it does.
        source: paper and equation or section, "lineage", or "dynadfq" for a choice of this library.
        unit: images, steps, bits, pixels, nats, a fraction …; empty where there is none.
        allowed: the permitted values in words, where type and bounds do not tell.
        ge, gt, le, lt: bounds; ``gt`` and ``lt`` leave the bound itself out.
        items: the interval of a list's elements, or of a number where it is not from bound to
            bound.
        constraints: anything else that ``pydantic.Field`` knows.
    """
    extra: JsonDict = {
        "unit": unit,
        "source": source,
        "allowed": allowed,
        "interval": items or interval(ge, gt, le, lt),
    }
    return Field(
        default,
        description=meaning,
        json_schema_extra=extra,
        ge=ge,
        gt=gt,
        le=le,
        lt=lt,
        **constraints,
    )


def interval(
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> str:
    """Return the permitted numbers in words.

    >>> interval(ge=2, le=8), interval(ge=1), interval(gt=0, le=1), interval(ge=0, lt=1)
    ('2 … 8', '1 … ∞', '0 … 1 (not 0)', '0 … 1 (not 1)')
    """
    low = ge if gt is None else gt
    if low is None:
        return ""
    high = le if lt is None else lt
    left_out = " or ".join(_number(bound) for bound in (gt, lt) if bound is not None)
    exception = f" (not {left_out})" if left_out else ""
    return f"{_number(low)} … {'∞' if high is None else _number(high)}{exception}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def note(field: FieldInfo, name: str) -> str:
    """Return the ``unit``, ``source``, ``allowed`` or ``interval`` of a field."""
    extra = field.json_schema_extra
    return str(extra.get(name, "")) if isinstance(extra, dict) else ""


def is_config(kind: object) -> TypeGuard[type[Config]]:
    """Return whether a field's annotation is a nested group."""
    return isinstance(kind, type) and issubclass(kind, Config)


def leaves(section: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every dotted key of a group with its field, in the order in which they are written."""
    for name, field in section.model_fields.items():
        if is_config(field.annotation):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the names that a field, or an element of its list, may take; none where it is open."""
    kind = field.annotation
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) is Literal else ()


def allowed(field: FieldInfo) -> str:
    """Return the permitted values of a field in words, such as "a whole number in 2 … 8"."""
    if words := note(field, "allowed"):
        return words
    if names := choices(field):
        return f"one of {', '.join(names)}"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    members = get_args(field.annotation) or (field.annotation,)
    text = next(words for kind, words in kinds.items() if kind in members)
    null = "null or " if type(None) in members else ""
    bounds = note(field, "interval")
    return f"{null}{text} in {bounds}" if bounds else f"{null}{text}"


def explain(error: ErrorDetails, root: type[Config]) -> tuple[str, str]:
    """Return the dotted setting that one of pydantic's errors is about, and what is wrong with it.

    Args:
        error: one of the errors of a validation.
        root: the class that was validated.
    """
    location = error["loc"]
    key = dotted(location)
    value = shown(error["input"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return key, f"unknown{did_you_mean(location[-1], root.model_fields)}"
    if kind == "model_type":
        return key, f"must be a group of keys; got {value}"
    if kind == "value_error":
        cause = error["ctx"]["error"]
        if isinstance(cause, InvalidArgument):
            return cause.argument, cause.problem
        return key, str(cause)
    field = find(root, location)
    if field is None:
        return key, error["msg"]
    names = choices(field)
    if kind in BOUNDS:
        bounds = note(field, "interval")
        wanted = f"in {bounds}" if bounds else error["msg"].removeprefix("Input should be ")
    elif kind == "missing":  # an element of a list of fixed length
        key = dotted(location[:-1])
        wanted = allowed(field)
    elif not isinstance(location[-1], int):
        wanted = allowed(field)
    elif names:
        wanted = f"one of {', '.join(names)}"
    elif kind.startswith("string"):
        wanted = "text"
    else:
        number = "a whole number" if kind.startswith("int") else "a number"
        bounds = note(field, "interval")
        wanted = f"{number} in {bounds}" if bounds else number
    return key, f"must be {wanted}; got {value}{did_you_mean(error['input'], names)}"


def find(root: type[Config], location: tuple[int | str, ...]) -> FieldInfo | None:
    """Return the setting at a location, or whose list holds it; None where there is none."""
    path = dotted(part for part in location if isinstance(part, str))
    return dict(leaves(root)).get(path)
