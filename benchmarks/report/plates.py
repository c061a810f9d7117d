"""The figures of a grid, from what was measured of its students and sets of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.cells import statistics_of
from benchmarks.report.figures.accuracy import accuracy_against_time, accuracy_by_method
from benchmarks.report.figures.looks import measured, timed
from benchmarks.report.figures.studies import panels, parameter_study
from benchmarks.report.image_plates import KINDS
from benchmarks.report.image_sets import ImageSet, class_names
from benchmarks.report.plate import Plate
from benchmarks.report.results import Line, Record
from benchmarks.report.tables import key_words, value_words

BARS = (
    "A bar is one standard deviation over seeds or, of one seed, one standard error over the test "
    "images."
)


def plates(
    content: Record, studies: Mapping[str, list[Line]], folder: Path = Path(".")
) -> Iterator[Plate]:
    """Yield the figures for which something was measured."""
    lines = measured(next(iter(studies.values()), []))
    if lines:
        yield Plate(
            "methods",
            "Accuracy at each width",
            "The first table's methods, mean over seeds, in the order of their accuracy at the "
            "lowest width; those without a student there come last. One panel per bit-width of the "
            "weights, each with its own scale. In brackets: bit-FLOPs per image, in percent of the "
            f"float network's. {BARS} A number at the left edge is the accuracy of a point beyond "
            "it.",
            partial(accuracy_by_method, lines),
        )
    if timed(lines):
        yield Plate(
            "time",
            "Accuracy against time",
            "The same accuracies over the time of making the images and of fine-tuning the "
            "student, mean over seeds: CPU time on a CPU, wall time on a GPU. One panel per "
            "bit-width of the weights, each with its own scale. A point without a "
            "bar at the lower edge lies below it.",
            partial(accuracy_against_time, lines),
        )
    for name, study in studies.items():
        if found := panels(study):
            caption = f"Top-1 accuracy over the values that were tried. {BARS}"
            title = content["studies"][name]["title"]
            yield Plate(f"study-{name}", title, caption, partial(parameter_study, found))
    several = len({figure["teacher"] for figure in content["figures"]}) > 1
    for figure in content["figures"]:
        teacher = figure["teacher"]
        sets = list(_measured_sets(content, figure, folder))
        for plate in KINDS[figure["kind"]](figure, sets) if sets else ():
            name, title = f"{plate.name}-{teacher}", f"{plate.title}: {teacher}"
            yield plate._replace(name=name, title=title) if several else plate


def _measured_sets(content: Record, figure: Record, folder: Path) -> Iterator[ImageSet]:
    """The sets of a figure that were measured."""
    made = {**content["images"], **content["labelled"]}
    names = class_names(content, figure["teacher"], folder)
    for one in figure["sets"]:
        key, path = one["key"], folder / statistics_of(one["key"])
        varied = one.get("varied", {})
        words = (f"{key_words(name)} {value_words(value)}" for name, value in varied.items())
        if path.exists():
            yield ImageSet(
                folder=path,
                of=content["statistics"][key]["of"],
                names=names,
                label=one.get("label", ", ".join(words)),
                varied=varied,
                settings=made[key]["params"]["method"]["images"] if key in made else {},
            )
