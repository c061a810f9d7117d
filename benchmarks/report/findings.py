"""What a grid found, in sentences: the best method at each width, and how many claims hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cells import evaluation_of
from benchmarks.report.claims import CERTAIN, Answer, paired
from benchmarks.report.results import Line


def findings(
    lines: Sequence[Line], answers: Sequence[Answer], folder: Path = Path(".")
) -> Iterator[str]:
    """Yield a sentence for each width with several lines in the first table, and one on claims.

    Args:
        lines: lines of the first table.
        answers: claims and what was measured.
        folder: folder of the cells.
    """
    measured = [line for line in lines if line.top1 is not None and line.data_free]
    for width in dict.fromkeys(line.width for line in measured):
        ranked = sorted(
            (line for line in measured if line.width == width),
            key=lambda line: -(line.top1 or 0.0),
        )
        if len(ranked) > 1:
            yield _best(width, ranked, folder)
    decided = [answer.holds for answer in answers]
    known = len(decided) - decided.count("not measured")
    single = sum(answer.seeds == 1 and answer.holds in ("yes", "no") for answer in answers)
    if known:
        yield (
            f"Of {known} claims, the papers' and this grid's own, {decided.count('yes')} hold "
            f"here, {decided.count('no')} do not, and {decided.count('undecided')} are undecided "
            f"(a difference below {CERTAIN:g} standard errors); {single} of those that are decided "
            "have one seed."
        )


def _best(width: str, ranked: Sequence[Line], folder: Path) -> str:
    best, second = ranked[:2]
    seeds = "one seed" if best.seeds == 1 else f"mean of {best.seeds} seeds"
    sentence = f"{width}: {best.name} has the highest top-1, {best.top1:.2f} % ({seeds})"
    pairs = [
        (_wrong(folder, one), _wrong(folder, other))
        for one, other in zip(best.cells, second.cells, strict=False)
        if all((folder / evaluation_of(key)).exists() for key in (one, other))
    ]
    if not pairs or not best.test_images:
        return f"{sentence}, followed by {second.name}."
    ours, theirs = zip(*pairs, strict=True)
    difference, error = paired(ours, theirs, best.test_images)
    decided = "" if abs(difference) >= CERTAIN * error and difference else ", which is undecided"
    return (
        f"{sentence}, {difference:+.2f} points (standard error {error:.2f}) against "
        f"{second.name}{decided}."
    )


def _wrong(folder: Path, key: str) -> set[int]:
    content = json.loads((folder / evaluation_of(key)).read_text(encoding="utf-8"))
    return set(content["wrong"])
