"""From the compact description of a grid to its cells, the lines of its tables and its claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from benchmarks.chains import Cells, Chain, Expansion, words_of
from benchmarks.description import Description, Row, width_of
from benchmarks.figures import Figures
from benchmarks.settings import (
    IMAGE_GROUPS,
    STUDENT_GROUPS,
    Document,
    misplaced,
    unknown_method,
)
from dynadfq.methods import METHODS
from dynadfq.methods.schedules import SCHEDULES


def expand(name: str, grid: Description, base: Document) -> tuple[Cells, list[str]]:
    """Return the cells of a grid by kind and key with the lines of its tables, and all errors.

    With errors, cells are missing.
    """
    problems = list(_wrong_parts(grid))
    if problems:
        return {}, problems
    expansion = Expansion(grid, base)
    for teacher in grid.teachers:
        expansion.teacher(teacher)
    studies = {
        study: {
            "title": content.title,
            "note": content.note,
            "controls": study in grid.controls,
            "lines": _lines(expansion, content.rows),
        }
        for study, content in grid.studies.items()
    }
    pictures = Figures(expansion)
    claims = list(_claims(expansion, studies))
    cells = {
        "grid": name,
        "missing": [],
        "reports": [name],
        "title": grid.title,
        "evaluation": expansion.evaluation(),
        **expansion.cells,
        "controls": _controls(expansion, studies),
        "statistics": pictures.statistics,
        "figures": pictures.figures,
        "studies": studies,
        "claims": claims,
    }
    return cells, list(expansion.problems.values())


def _lines(expansion: Expansion, rows: list[Row]) -> list[Document]:
    """The lines of a table: for each row its widths, varied values and teachers, with a cell for
    each seed.
    """
    grid = expansion.grid
    lines = []
    for row in rows:
        images, student = grid.images[row.images], grid.students[row.student]
        for teacher, values, text in product(
            grid.teachers, product(*row.vary.values()), row.widths
        ):
            varied, width = dict(zip(row.vary, values, strict=True)), width_of(text)
            chains = (
                Chain(teacher, row.images, row.student, width, varied, seed)
                for seed in range(row.seeds)
            )
            line = {
                "label": row.label or row.student,
                "teacher": teacher,
                "width": width.words,
                "varied": varied,
                "generator": METHODS[images.method].trains_generator,
                "data_free": all(METHODS[part.method].data_free for part in (images, student)),
                "cells": [expansion.student(chain) for chain in chains],
            }
            lines.append(line)
    return lines


def _controls(expansion: Expansion, studies: Mapping[str, Document]) -> Document:
    """The dynamic students whose controls are measured, and their teachers."""
    found: Document = {}
    for study in expansion.grid.controls:
        keys = [key for line in studies[study]["lines"] for key in line["cells"]]
        students = {key: expansion.cells["students"][key] for key in keys}
        dynamic = {key: one["teacher"] for key, one in students.items() if not one["fixed"]}
        if not dynamic:
            problem = f"{study} has no widths with candidates, such as w4a4-345"
            expansion.report("controls", [problem])
        found |= {key: {"teacher": teacher} for key, teacher in dynamic.items()}
    return found


def _claims(expansion: Expansion, studies: Mapping[str, Document]) -> Iterator[Document]:
    """A claim for each teacher and pair of widths, with the cells that answer it."""
    for number, claim in enumerate(expansion.grid.claims):
        for teacher, pair in product(expansion.grid.teachers, claim.pairs):
            sides: dict[str, Document] = {}
            for name, side, width in zip(
                ("better", "worse"), (claim.better, claim.worse), pair, strict=True
            ):
                wanted = {
                    "label": side.label,
                    "teacher": teacher,
                    "width": width.words,
                    "varied": side.vary,
                }
                if side.control and not width.candidates:
                    problem = (
                        f"control: {width.words} has no candidates to give to other images; name "
                        "a width with candidates, such as w4a4-345"
                    )
                    expansion.report(f"claims[{number}].{name}", [problem])
                    continue
                lines = studies[side.study]["lines"] if side.study in studies else []
                found = [line for line in lines if wanted.items() <= line.items()]
                if not found:
                    words = f"{side.label}, {width.words}" + words_of(side.vary)
                    expansion.report(
                        f"claims[{number}].{name}", [f"no line {words} in study {side.study}"]
                    )
                    continue
                sides[name] = {
                    "label": side.label,
                    "width": width.words,
                    "varied": side.vary,
                    "control": side.control,
                    "cells": found[0]["cells"],
                }
            yield {"text": claim.text, "source": claim.source, "teacher": teacher, **sides}


def _wrong_parts(grid: Description) -> Iterator[str]:
    """Methods that do not exist, and keys where they would change nothing."""
    for kind, parts, groups in (
        ("images", grid.images, IMAGE_GROUPS),
        ("students", grid.students, STUDENT_GROUPS),
    ):
        for name, part in parts.items():
            if (problem := unknown_method(part.method)) is not None:
                yield f"{kind}.{name}.method: {problem}"
            if part.published and part.method not in SCHEDULES:
                known = ", ".join(SCHEDULES)
                yield (
                    f"{kind}.{name}.published: {part.method} has no published schedule; those "
                    f"that have one are {known}"
                )
            for key in part.set:
                if (problem := misplaced(key, groups)) is not None:
                    yield f"{kind}.{name}.set: {problem}"
    for study, content in grid.studies.items():
        for index, row in enumerate(content.rows):
            for key in row.vary:
                if (problem := misplaced(key, IMAGE_GROUPS + STUDENT_GROUPS)) is not None:
                    yield f"studies.{study}.rows[{index}].vary: {problem}"
