"""The content of ``benchmarks/grids/*.yaml``, as types."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import Field, ValidationError, field_validator

from dynadfq.graph.config import FLOAT_BITS
from dynadfq.runtime.config import Config
from dynadfq.runtime.errors import dotted, shown

Overrides = dict[
    str, Any
]  # dotted keys of params.yaml; `images.…` and `student.…` are those groups of the method

NAME = r"^[a-z0-9][a-z0-9-]*$"
WIDTH = re.compile(r"w([2-8])a(?:([2-8])(?:-([2-8]{2,}))?|32)")


class Width(NamedTuple):
    """Widths of a student, activations of 32 bits being float32; without candidates it is of fixed
    width.
    """

    weight_bits: int
    target_bits: int
    candidates: tuple[int, ...]

    @property
    def words(self) -> str:
        """As in the literature, such as W4A4 or W4A{3,4,5}."""
        inner = ",".join(map(str, self.candidates))
        return (
            f"W{self.weight_bits}A{{{inner}}}"
            if self.candidates
            else f"W{self.weight_bits}A{self.target_bits}"
        )


def width_of(text: str) -> Width:
    """Read ``w4a4`` (fixed width), ``w4a32`` (weights alone) or ``w4a4-345`` (candidates 3, 4 and 5
    with the cost of 4 as target).

    >>> width_of("w4a4-345").candidates, width_of("w3a3").words, width_of("w3a32").target_bits
    ((3, 4, 5), 'W3A3', 32)

    Raises:
        ValueError: the text has another form, or candidates are not ascending.
    """
    match = WIDTH.fullmatch(text)
    if match is None:
        raise ValueError(
            "neither a fixed width, such as w4a4 or, with float activations, w4a32, nor one with "
            "candidates, such as w4a4-345 (2 … 8 bits)"
        )
    candidates = tuple(int(digit) for digit in match[3] or "")
    if any(low >= high for low, high in pairwise(candidates)):
        raise ValueError("not ascending in its candidates")
    return Width(int(match[1]), int(match[2] or FLOAT_BITS), candidates)


class Part(Config):
    """An image source or a learner: a method, and what of it or of its loop differs from the base
    file.

    published: its own published schedule in place of the grid's protocol; ``set`` comes after it.
    """

    method: str
    published: bool = False
    set: Overrides = Field(default_factory=dict)


class Row(Config):
    """Some lines of a table: one for each width and each combination of the varied values.

    images, student: names under ``images`` and ``students``.
    widths: such as ``w4a4``, ``w4a32``, or ``w4a4-345`` for a dynamic student.
    seeds: how many; 0, 1, … for the whole chain of images and student.
    vary: values to try of each key.
    """

    images: str
    student: str
    widths: list[str] = Field(min_length=1)
    seeds: int = Field(1, ge=1)
    label: str | None = None
    vary: dict[str, list[Any]] = Field(default_factory=dict)

    @field_validator("widths")
    @classmethod
    def _widths(cls, widths: list[str]) -> list[str]:
        for text in widths:
            try:
                width_of(text)
            except ValueError as error:
                raise ValueError(f"{text} is {error}") from None
        return widths


class Study(Config):
    """One table of the paper."""

    title: str
    note: str = ""
    rows: list[Row]


class Side(Config):
    """One side of a claim: a line of a study.

    control: its images have the widths that were chosen for other ones.
    """

    study: str
    label: str
    vary: dict[str, Any] = Field(default_factory=dict)
    control: bool = False


class Claim(Config):
    """A paper's claim about two lines, at each pair of bit-widths; one bit-width means the same for
    both.
    """

    text: str
    source: str
    better: Side
    worse: Side
    widths: list[str | list[str]] = Field(min_length=1)

    @property
    def pairs(self) -> list[tuple[Width, Width]]:
        """The widths of the better and of the worse side."""
        both = [(item, item) if isinstance(item, str) else item for item in self.widths]
        return [(width_of(better), width_of(worse)) for better, worse in both]


class Description(Config):
    """A grid.

    base: parameter file that every cell starts from.
    set: overrides for every cell.
    teachers: overrides by teacher, which are named after data and architecture, so that grids never
        share a key.
    claims: what the papers say of the studies' lines, to be answered by measurement.
    statistics: names under ``images`` whose activations are compared with the BatchNorm statistics,
        by layer and in single channels, real images first (DSG, supplement, Figs. 1 and 2).
    entropies: names under ``images`` whose prediction entropies are compared (DynaDFQ, Fig. 3).
    label_studies: studies that vary the labels of images, whose entropies and images are compared
        (DynaDFQ, Figs. 5, 9 and 10).
    controls: studies whose dynamic students are measured with the widths of all controls.
    generators: names under ``students`` that train a generator, whose images are compared by the
        student's width (AdaDFQ, supplement, Fig. 3).
    test_images: whether the test images of lowest and highest entropy are shown, and all of them
        compared with others (DynaDFQ, Fig. 7).
    """

    title: str
    base: str
    set: Overrides = Field(default_factory=dict)
    teachers: dict[str, Overrides] = Field(min_length=1)
    images: dict[str, Part]
    students: dict[str, Part]
    studies: dict[str, Study]
    claims: list[Claim] = Field(default_factory=list)
    statistics: list[str] = Field(default_factory=list)
    entropies: list[str] = Field(default_factory=list)
    label_studies: list[str] = Field(default_factory=list)
    controls: list[str] = Field(default_factory=list)
    generators: list[str] = Field(default_factory=list)
    test_images: bool = False


def described(content: object) -> tuple[Description | None, list[str]]:
    """Return a grid file's content as types, or a line per error in its form."""
    try:
        description = Description.model_validate(content)
    except ValidationError as error:
        return None, [
            f"{dotted(e['loc'])}: {shown(e['input'])}: {e['msg']}"
            for e in error.errors(include_url=False)
        ]
    return description, list(_loose_ends(description))


def _loose_ends(grid: Description) -> list[str]:
    names = [*grid.teachers, *grid.images, *grid.students, *grid.studies]
    problems = [
        f"{name}: a name has small letters, digits and dashes"
        for name in names
        if not re.match(NAME, name)
    ]
    for study, content in grid.studies.items():
        for index, row in enumerate(content.rows):
            place = f"studies.{study}.rows[{index}]"
            for kind, name, known in (
                ("images", row.images, grid.images),
                ("student", row.student, grid.students),
            ):
                if name not in known:
                    problems.append(
                        f"{place}.{kind}: {shown(name)} is not one of {', '.join(known)}"
                    )
    for key, listed, among in (
        ("statistics", grid.statistics, grid.images),
        ("entropies", grid.entropies, grid.images),
        ("label_studies", grid.label_studies, grid.studies),
        ("controls", grid.controls, grid.studies),
        ("generators", grid.generators, grid.students),
    ):
        for name in listed:
            if name not in among:
                problems.append(f"{key}: {shown(name)} is not one of {', '.join(among)}")
    return problems
