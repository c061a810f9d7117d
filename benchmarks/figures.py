"""Which sets of images a grid's figures show, and the cells that measure these sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from benchmarks.cells import GENERATED
from benchmarks.chains import Chain, Expansion
from benchmarks.description import Study, Width, width_of
from benchmarks.settings import Document
from dynadfq.methods import METHODS

NO_SOURCE = "checkpoints/README.md"  # DVC needs a path; test images are read from the data set


class Figures:
    """Collects the figures of a grid, and the sets of images that they show.

    statistics: entries of the measuring cells by key: `of` says what kind of set `source` is.
    figures: what is drawn of which sets.
    """

    def __init__(self, expansion: Expansion) -> None:
        self.expansion, self.grid = expansion, expansion.grid
        self.statistics: Document = {}
        self.figures = [
            figure for teacher in self.grid.teachers for figure in self._figures(teacher)
        ]

    def _figures(self, teacher: str) -> Iterator[Document]:
        grid = self.grid
        test = [self._test(teacher)] if grid.test_images else []
        if grid.statistics:
            sets = self._named(teacher, "statistics", grid.statistics, layers=True)
            yield _figure("layers", teacher, sets)
            yield _figure("channels", teacher, sets)
        if grid.entropies:
            sets = self._named(teacher, "entropies", grid.entropies)
            yield _figure("entropies", teacher, [*test, *sets])
        for name in grid.label_studies:
            sets = list(self._varied(teacher, grid.studies[name]))
            if not sets:
                self.expansion.report("label_studies", [f"{name} varies no key of the images"])
            yield _figure("label-entropies", teacher, sets, study=name)
            yield _figure("similar-classes", teacher, sets, study=name)
        if test:
            yield _figure("easy-and-hard", teacher, test)
        for student in grid.generators:
            sets = list(self._generators(teacher, student))
            if not sets:
                problem = f"{student} is in no study, or trains no generator beside the student"
                self.expansion.report("generators", [problem])
            method = METHODS[grid.students[student].method].title
            yield _figure("generators", teacher, [*test, *sets], student=student, method=method)

    def _named(
        self, teacher: str, figure: str, sources: Sequence[str], layers: bool = False
    ) -> list[Document]:
        """The first seed's images of some sources, whose labels tell them apart in a figure."""
        labels = [self._name(source) for source in sources]
        for label, count in Counter(labels).items():
            if count > 1:
                same = [source for source, its in zip(sources, labels, strict=True) if its == label]
                problem = f"{' and '.join(same)} are both {label} in the tables; name one of them"
                self.expansion.report(figure, [problem])
        keys = (
            self.expansion.images(Chain(teacher, source, "", Width(8, 8, ()), {}, 0))
            for source in sources
        )
        return [
            {"label": label, "key": self._of_images(teacher, key, layers)}
            for label, key in zip(labels, keys, strict=True)
        ]

    def _name(self, source: str) -> str:
        """A source as the literature calls it: its method, or the label of a row that uses it."""
        method = self.grid.images[source].method
        if source == method:
            return METHODS[method].title
        rows = [row for study in self.grid.studies.values() for row in study.rows]
        return next((row.label for row in rows if row.images == source and row.label), source)

    def _of_images(self, teacher: str, key: str, layers: bool = False) -> str:
        return self._measured(key, teacher, "images", f"benchmarks/artifacts/images/{key}", layers)

    def _test(self, teacher: str) -> Document:
        key = f"{teacher}-test"
        self._measured(key, teacher, "test", NO_SOURCE)
        evaluation = self.expansion.evaluation()
        self.statistics[key] |= {name: evaluation[name] for name in ("data", "test_images")}
        return {"label": "Test images", "key": key}

    def _varied(self, teacher: str, study: Study) -> Iterator[Document]:
        """The first seed's images of a study by the varied keys of their method, each set once."""
        found = set()
        for row in study.rows:
            for values in product(*row.vary.values()):
                varied = dict(zip(row.vary, values, strict=True))
                mine = {key: value for key, value in varied.items() if key.startswith("images.")}
                width = width_of(row.widths[0])
                key = self.expansion.images(Chain(teacher, row.images, "", width, varied, 0))
                if mine and (key, *mine) not in found:
                    found.add((key, *mine))
                    yield {"varied": mine, "key": self._of_images(teacher, key)}

    def _generators(self, teacher: str, name: str) -> Iterator[Document]:
        """What a student's generator makes after fine-tuning, by the student's width."""
        part = self.grid.students[name]
        online = METHODS[part.method].trains_generator
        rows = [row for study in self.grid.studies.values() for row in study.rows]
        mine = [row for row in rows if row.student == name and not row.vary]
        images_of: dict[str, str] = {}
        for row in mine if online else ():
            for text in row.widths:
                images_of.setdefault(text, row.images)
        for text, images in images_of.items():
            width = width_of(text)
            key = self.expansion.student(Chain(teacher, images, name, width, {}, 0))
            settings = self.expansion.cells["students"][key]["params"]["method"]["student"]
            if settings["online_generator"]:
                source = f"benchmarks/artifacts/students/{key}/{GENERATED}"
                self._measured(key, teacher, "generator", source)
                yield {"label": width.words, "key": key}

    def _measured(self, key: str, teacher: str, of: str, source: str, layers: bool = False) -> str:
        """Add the cell that measures a set, and return its key."""
        known = self.statistics.get(key, {"layers": False})
        self.statistics[key] = {
            "teacher": teacher,
            "architecture": self.expansion.architecture(teacher),
            "device": self.expansion.evaluation()["device"],
            "of": of,
            "source": source,
            "layers": layers or known["layers"],
        }
        return key


def _figure(kind: str, teacher: str, sets: Iterable[Document], **about: Any) -> Document:
    return {"kind": kind, "teacher": teacher, "sets": list(sets), **about}
