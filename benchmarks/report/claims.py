"""Claims of the papers, answered by paired comparisons of students on the same test images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, variance
from typing import NamedTuple

import pandas as pd

from benchmarks.cells import evaluation_of
from benchmarks.markdown import cell_text
from benchmarks.report.results import Record
from benchmarks.report.tables import Table, key_words

CERTAIN = 2.0  # standard errors
HEADINGS = ["Claim", "Holds here", "W/A", "Source", "Difference", "Error", "Seeds"]
NOTE = (
    "Difference: points of top-1 accuracy, mean over seeds. Error: standard error of the paired "
    "difference, from the test images on which the two students differ and, with several seeds, "
    f"from the spread over seeds. A claim is decided where the difference is {CERTAIN:g} errors or "
    "more. With one seed the error leaves out how much seeds differ, and so does the verdict."
)


class Answer(NamedTuple):
    """A claim and what was measured; difference and error are None where cells are missing."""

    text: str
    source: str
    better: str
    worse: str
    widths: str
    seeds: int
    difference: float | None
    error: float | None

    @property
    def holds(self) -> str:
        """yes, no, undecided, or not measured."""
        if self.difference is None or self.error is None:
            return "not measured"
        if abs(self.difference) < CERTAIN * self.error or self.difference == 0:
            return "undecided"
        return "yes" if self.difference > 0 else "no"


def paired(
    better: Sequence[set[int]], worse: Sequence[set[int]], images: int
) -> tuple[float, float]:
    """Return the difference in points of accuracy and its standard error.

    Both follow from the sets of wrong images of each seed's two students. All seeds have the same
    test images, so that the variance has two parts: that of an image's mean over seeds, divided by
    the number of images, and that of a seed's difference, divided by the number of seeds. What is
    due to single students on single images is in both, which makes up for how little few seeds say
    of their spread. With one seed the first part alone is left (McNemar's), and differences
    between seeds are not in the error.

    >>> paired([{1, 2}], [{2, 3, 4, 5}], 100)
    (2.0, 1.98997487421324)
    """
    seeds = len(better)
    net: Counter[int] = Counter()  # by image: seeds that only the worse side misses it with, less
    differences = []  # those that only the better side misses it with
    for first, second in zip(better, worse, strict=True):
        gained, lost = second - first, first - second
        net.update(gained)
        net.subtract(lost)
        differences.append((len(gained) - len(lost)) / images)
    mean = fmean(differences)
    squares = sum(count**2 for count in net.values()) / seeds**2
    of_images = (squares / images - mean**2) / images
    of_seeds = variance(differences) / seeds if seeds > 1 else 0.0
    return 100 * mean, 100 * sqrt(of_images + of_seeds)


def answers(content: Record, folder: Path = Path(".")) -> Iterator[Answer]:
    """Yield an answer per claim, from the seeds that both sides have."""
    for claim in content["claims"]:
        better, worse = claim["better"], claim["worse"]
        found = [
            (_read(folder, one), _read(folder, other))
            for one, other in zip(better["cells"], worse["cells"], strict=False)
        ]
        pairs = [
            (one[_wrong(better)], other[_wrong(worse)], one["test_images"])
            for one, other in found
            if one is not None and other is not None
        ]
        difference = error = None
        if pairs:
            ours, theirs, images = zip(*pairs, strict=True)
            difference, error = paired([*map(set, ours)], [*map(set, theirs)], images[0])
        yield Answer(
            text=claim["text"],
            source=claim["source"],
            better=_words(better),
            worse=_words(worse),
            widths=" / ".join(dict.fromkeys([better["width"], worse["width"]])),
            seeds=len(pairs),
            difference=difference,
            error=error,
        )


def plain(found: Sequence[Answer]) -> pd.DataFrame:
    """Return one row per claim and width."""
    return pd.DataFrame([{**answer._asdict(), "holds": answer.holds} for answer in found])


def shown(found: Sequence[Answer]) -> Table:
    """Return the claims to be read; a claim's words stand once, and the CSV file names the lines
    that were compared.
    """
    rows, before = [], None
    for answer in found:
        said = (answer.text, answer.source)
        text, source = ("", "") if said == before else said
        difference = "–" if answer.difference is None else f"{answer.difference:+.2f}"
        numbers = [difference, cell_text(answer.error), cell_text(answer.seeds)]
        decided = answer.seeds == 1 and answer.holds in ("yes", "no")
        verdict = f"{answer.holds}, one seed" if decided else answer.holds
        rows.append([text, verdict, answer.widths, source, *numbers])
        before = said
    return Table(HEADINGS, rows, words=4)


def _read(folder: Path, key: str) -> Record | None:
    path = folder / evaluation_of(key)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _wrong(side: Record) -> str:
    return "control_wrong" if side["control"] else "wrong"


def _words(side: Record) -> str:
    varied = [f"{key_words(key)} {value}" for key, value in side["varied"].items()]
    remarks = ", ".join(varied + ["control"] * side["control"])
    return f"{side['label']} ({remarks})" if remarks else str(side["label"])
