"""What some of the teacher's keys may be: an architecture's name, an image's shape, a value a
channel.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from dynadfq.runtime.import_path import is_import_path

FAMILIES = ("pytorchcv", "torchvision", "timm", "efficientnet")
ARCHITECTURES = (
    "a name of the form pytorchcv/…, torchvision/…, timm/… or efficientnet/…, or an import path such as "
    "my_pkg.models:build"
)
SHAPES = "null or a list of three whole numbers: channels, height and width"
CHANNELS = "null or a list of numbers, one a channel"
DEVIATIONS = f"{CHANNELS}, above 0"


def _architecture(value: object) -> str:
    family, _, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    if isinstance(value, str) and (is_import_path(value) or (family in FAMILIES and name)):
        return value
    raise ValueError(f"not {ARCHITECTURES}")


def _shape(value: object) -> tuple[int, int, int] | None:
    if value is None:
        return None
    whole = (
        [part for part in value if type(part) is int and part > 0]
        if isinstance(value, (list, tuple))
        else []
    )
    if len(whole) != 3 or len(value) != 3:  # type: ignore[arg-type]
        raise ValueError(f"not {SHAPES}")
    return whole[0], whole[1], whole[2]


def _numbers(value: object, words: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    if (
        not isinstance(value, (list, tuple))
        or not value
        or any(type(part) not in (int, float) for part in value)
    ):
        raise ValueError(f"not {words}")
    return tuple(map(float, value))


def _deviations(value: object) -> tuple[float, ...] | None:
    numbers = _numbers(value, DEVIATIONS)
    if numbers is not None and min(numbers) <= 0:
        raise ValueError(f"not {DEVIATIONS}")
    return numbers


Architecture = Annotated[str, BeforeValidator(_architecture)]
ImageShape = Annotated[tuple[int, int, int] | None, BeforeValidator(_shape)]
Means = Annotated[
    tuple[float, ...] | None, BeforeValidator(lambda value: _numbers(value, CHANNELS))
]
Deviations = Annotated[tuple[float, ...] | None, BeforeValidator(_deviations)]
