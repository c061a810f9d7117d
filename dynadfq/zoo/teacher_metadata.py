"""What a teacher reads and tells apart: put together from what the user says, the library and the
data set know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dynadfq.ops.preprocess import Interpolation, Preprocessing
from dynadfq.zoo import architectures
from dynadfq.zoo.metadata import Metadata, Shape

NUMBERS = "numbers, since no names are known"


@dataclass(frozen=True)
class TeacherMetadata:
    """All that a teacher needs beside its network; ``origins`` says in words where each fact is
    from.
    """

    input_shape: Shape
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None
    interpolation: Interpolation
    class_names: tuple[str, ...] | None
    origins: Mapping[str, str]

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes what the teacher reads."""
        return Preprocessing(self.input_shape, self.mean, self.std, self.resize, self.interpolation)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``Teacher``."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def lines(self) -> list[str]:
        """A line a fact: its value, and where it is from."""
        return [
            f"{name} {_text(getattr(self, name))}: {origin}"
            for name, origin in self.origins.items()
        ]


def resolve(given: Metadata, sources: Sequence[Metadata]) -> TeacherMetadata:
    """Facts from several sources: what is given, then the first source that knows a fact.

    Size and scaling belong together: images are scaled as the first source says that knows their
    size, in proportion where another size is given. Statistics of another number of channels are
    passed over.

    Raises:
        ValueError: a fact is neither given nor known, or what is given does not fit; the keys are
            named.
    """
    shape, shape_from = _first("input_shape", given, sources)
    classes, classes_from = _first("num_classes", given, sources)
    fitting = [
        one for one in sources if shape is None or one.mean is None or len(one.mean) == shape[0]
    ]
    mean, mean_from = _first("mean", given, fitting)
    std, std_from = _first("std", given, fitting)
    found = {"input_shape": shape, "num_classes": classes, "mean": mean, "std": std}
    missing = [f"teacher.{name}" for name, value in found.items() if value is None]
    if missing:
        known = f" nor known from {' or '.join(one.origin for one in sources)}" if sources else ""
        raise ValueError(
            f"{', '.join(missing)}: not given{known}; write what the network was trained with"
        )
    resize, resize_from, interpolation, interpolation_from = _scaling(shape, given, sources)
    names, names_from = _names(classes, given, sources)
    try:
        Preprocessing(shape, mean, std, resize, interpolation)
    except ValueError as error:
        raise ValueError(f"teacher.{error}") from error
    return TeacherMetadata(
        shape,
        classes,
        mean,
        std,
        resize,
        interpolation,
        names,
        {
            "input_shape": shape_from,
            "num_classes": classes_from,
            "class_names": names_from,
            "mean": mean_from,
            "std": std_from,
            "resize": resize_from,
            "interpolation": interpolation_from,
        },
    )


def _first(name: str, given: Metadata, sources: Sequence[Metadata]) -> tuple[Any, str]:
    """The first value that is known, and its origin."""
    known = ((getattr(source, name), source.origin) for source in (given, *sources))
    return next((pair for pair in known if pair[0] is not None), (None, ""))


def _scaling(
    shape: Shape, given: Metadata, sources: Sequence[Metadata]
) -> tuple[int | None, str, Interpolation, str]:
    """Resize and interpolation with their origins."""
    source = next(
        (one for one in sources if one.input_shape is not None), Metadata("nothing known of it")
    )
    resize, resize_from = source.resize, source.origin
    if (
        resize is not None
        and source.input_shape is not None
        and source.input_shape[1:] != shape[1:]
    ):
        resize = round(resize * max(shape[1:]) / max(source.input_shape[1:]))
        resize_from += f", {source.resize} for {max(source.input_shape[1:])}, in proportion"
    if given.resize is not None:
        resize, resize_from = given.resize, given.origin
    if given.interpolation is not None:
        return resize, resize_from, given.interpolation, given.origin
    return resize, resize_from, source.interpolation or "bilinear", source.origin


def _names(
    classes: int, given: Metadata, sources: Sequence[Metadata]
) -> tuple[tuple[str, ...] | None, str]:
    """Class names, as many as classes unless they are given; numbers where none are known."""
    if given.class_names is not None:
        return given.class_names, given.origin
    for source in sources:
        if source.class_names is not None and len(source.class_names) == classes:
            return source.class_names, source.origin
    return None, NUMBERS


def _text(value: Any) -> str:
    """A value on one line, lists without brackets, long ones cut.

    >>> _text((0.485, 0.456)), _text((3, 32, 32)), _text(None), _text(("cat", "dog", "bird", "frog"))
    ('0.485, 0.456', '3, 32, 32', 'none', 'cat, dog, bird, … (4)')
    """
    if value is None:
        return "none"
    if not isinstance(value, tuple):
        return str(value)
    parts = [f"{part:.4g}" if isinstance(part, float) else str(part) for part in value]
    return ", ".join(parts) if len(parts) <= 3 else f"{', '.join(parts[:3])}, … ({len(parts)})"


def teacher_metadata(
    architecture: str,
    given: Metadata,
    data_set: Metadata | None,
    published_weights: bool,
    image_size: int | None = None,
) -> TeacherMetadata:
    """What a teacher reads and tells apart, of all that params.yaml leaves open.

    The library is asked first about weights it published, and the data set first about any others:
    those were trained on it, or will be.

    Args:
        given: what params.yaml says.
        data_set: what the labelled data set knows; None where there is none.
        image_size: side in pixels in place of the one that library or data set know.

    Raises:
        ValueError: a fact is missing or does not fit, or the data set's classes are not the
            teacher's.
    """
    library = architectures.metadata(architecture)
    order = (library, data_set) if published_weights else (data_set, library)
    sources = [source for source in order if source is not None]
    if image_size is not None and given.input_shape is None:
        channels = next((source.input_shape[0] for source in sources if source.input_shape), 3)
        given = replace(given, input_shape=(channels, image_size, image_size))
    facts = resolve(given, sources)
    if data_set is not None and data_set.num_classes not in (None, facts.num_classes):
        raise ValueError(
            f"data.name: {data_set.origin} has {data_set.num_classes} classes and the teacher {facts.num_classes} "
            f"({facts.origins['num_classes']}); take the data set it was trained for, or null"
        )
    return facts
