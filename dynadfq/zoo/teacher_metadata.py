"""Inputs and classes of a teacher: from the user, the zoo's library and the data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from dynadfq.ops.config import Interpolation
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.config import Config
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.numbers import Shape
from dynadfq.zoo import architectures
from dynadfq.zoo.metadata import Metadata

LONGEST_SIDE = 1 << 14  # pixels
MOST_CLASSES = 1 << 20
Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
NUMBERS = "numbers, since no names are known"
_SHOWN = ("input_shape", "num_classes", "class_names", "mean", "std", "resize", "interpolation")


class TeacherMetadata(Config):
    """The arguments of ``Teacher`` that describe inputs and classes.

    ``origins`` says where each comes from, as text.
    """

    input_shape: tuple[Side, Side, Side]
    num_classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    resize: Annotated[int, Field(ge=1, le=LONGEST_SIDE)] | None
    interpolation: Interpolation
    class_names: tuple[str, ...] | None
    origins: dict[str, str]

    @model_validator(mode="after")
    def _values_fit(self) -> TeacherMetadata:
        _ = self.preprocessing  # raises an error if they do not
        if self.class_names is not None and len(self.class_names) != self.num_classes:
            raise InvalidArgument(
                "class_names",
                f"{len(self.class_names)} names for {self.num_classes} classes; give one per class",
            )
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """Scaling, center crop and normalization of images."""
        return Preprocessing(self.input_shape, self.mean, self.std, self.resize, self.interpolation)

    def arguments(self) -> dict[str, Any]:
        """Return keyword arguments of ``Teacher``."""
        return self.model_dump()

    def lines(self) -> list[str]:
        """Return a line of text per value: the value and its origin."""
        return [f"{name} {_text(getattr(self, name))}: {self.origins[name]}" for name in _SHOWN]


def teacher_metadata(
    architecture: str,
    given: Metadata,
    data_set: Metadata | None,
    published_weights: bool,
    image_size: int | None = None,
) -> TeacherMetadata:
    """Complete the user's metadata from the zoo's library and the data set.

    Published weights take the library's values first, all others the data set's: they were trained
    on it, or will be.

    Args:
        architecture: ``family/model`` or an import path.
        given: what the user says; it has precedence.
        data_set: what the labelled data set knows; None if there is none.
        published_weights: whether the weights are the library's.
        image_size: side in pixels that replaces the one that library or data set know.

    Raises:
        ValueError: a value is missing or does not fit, or the data set has other classes than the
            teacher.
    """
    library = architectures.metadata(architecture)
    order = (library, data_set) if published_weights else (data_set, library)
    sources = [source for source in order if source is not None]
    if image_size is not None and given.input_shape is None:
        channels = next((source.input_shape[0] for source in sources if source.input_shape), 3)
        given = replace(given, input_shape=(channels, image_size, image_size))
    found = resolve(given, sources)
    if data_set is not None and data_set.num_classes not in (None, found.num_classes):
        raise InvalidArgument(
            "data_set",
            f"{data_set.origin} has {data_set.num_classes} classes and the teacher "
            f"{found.num_classes} ({found.origins['num_classes']}); take the data set it was "
            "trained for, or null",
        )
    return found


def resolve(
    given: Metadata, sources: Sequence[Metadata], otherwise: Metadata | None = None
) -> TeacherMetadata:
    """Take each value from the first source that knows it.

    Size and scaling belong together: ``resize`` and ``interpolation`` are those of the first source
    that knows ``input_shape``, in proportion if another size is given. Class names must be as many
    as classes, and mean and std as many as channels, unless they are given.

    Args:
        given: has precedence over ``sources``.
        sources: in order of precedence.
        otherwise: mean and std where no source knows them; errors do not name it.

    Raises:
        ValueError: a value is missing, or a given one does not fit the others.
    """
    origins: dict[str, str] = {}

    def first(name: str, *candidates: Metadata) -> Any:
        for source in candidates:
            if getattr(source, name) is not None:
                origins[name] = source.origin
                return getattr(source, name)
        return None

    shape = first("input_shape", given, *sources)
    num_classes = first("num_classes", given, *sources)
    fitting = [
        source
        for source in ([*sources, otherwise] if otherwise else sources)
        if shape is None or source.mean is None or len(source.mean) == shape[0]
    ]
    mean = first("mean", given, *fitting)
    std = first("std", given, *fitting)
    missing = [
        name for name in ("input_shape", "num_classes", "mean", "std") if name not in origins
    ]
    if missing:
        asked = " or ".join(source.origin for source in sources)
        known = f" nor known from {asked}" if asked else ""
        raise InvalidArgument(
            ", ".join(missing), f"not given{known}; write what the network was trained with"
        )
    named = [source for source in sources if len(source.class_names or ()) == num_classes]
    class_names = first("class_names", given, *named)
    origins.setdefault("class_names", NUMBERS)
    scaling = next(
        (source for source in sources if source.input_shape is not None), Metadata("unknown")
    )
    interpolation: Interpolation = first("interpolation", given, scaling) or "bilinear"
    origins.setdefault("interpolation", scaling.origin)
    resize = first("resize", given)
    if resize is None:
        resize, origins["resize"] = _scaled_resize(scaling, shape)
    return TeacherMetadata(
        input_shape=shape,
        num_classes=num_classes,
        mean=mean,
        std=std,
        resize=resize,
        interpolation=interpolation,
        class_names=class_names,
        origins=origins,
    )


def _scaled_resize(source: Metadata, shape: Shape) -> tuple[int | None, str]:
    """A source's ``resize`` in proportion to the size of ``shape``, and its origin."""
    if source.resize is None or source.input_shape is None or source.input_shape[1:] == shape[1:]:
        return source.resize, source.origin
    side = max(source.input_shape[1:])
    resize = round(source.resize * max(shape[1:]) / side)
    return resize, f"{source.origin}, {source.resize} for {side}, in proportion"


def _text(value: Any) -> str:
    """A value on one line: lists without brackets, long ones cut.

    >>> _text((0.485, 0.456)), _text((3, 32, 32)), _text(None), _text(("cat", "dog", "bird", "ox"))
    ('0.485, 0.456', '3, 32, 32', 'none', 'cat, dog, bird, … (4)')
    """
    if value is None:
        return "none"
    if not isinstance(value, tuple):
        return str(value)
    parts = [f"{part:.4g}" if isinstance(part, float) else str(part) for part in value]
    if len(parts) <= 3:
        return ", ".join(parts)
    return f"{', '.join(parts[:3])}, … ({len(parts)})"
