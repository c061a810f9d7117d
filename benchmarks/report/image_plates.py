"""Figures of sets of images: their statistics, their entropies, and some of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean

import numpy as np

from benchmarks.report.figures.channels import channel_statistics
from benchmarks.report.figures.entropies import entropies_by_label
from benchmarks.report.figures.layers import layer_statistics
from benchmarks.report.figures.tile_rows import tile_rows
from benchmarks.report.image_sets import ImageSet
from benchmarks.report.plate import Plate
from benchmarks.report.results import Record
from benchmarks.report.tables import key_words, value_words
from dynadfq.report.figures.entropy import entropy_distribution
from dynadfq.report.figures.tiles import Tile
from dynadfq.report.matrices import Floats

COLUMNS = 8  # classes of which images are shown
K = "similar_classes"
LABEL_BARS = (
    "Bars: the shares of classes in the label, in percent, three at most. After the arrow: the "
    "class that the float teacher predicts."
)
MEAN = "The mean entropy is that of the teacher's predictions on the images shown."
PROBABILITY_BARS = (
    "Bars: the teacher's probabilities, in percent, three at most. After the arrow: its prediction."
)


def _layers(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """DSG, supplement, Fig. 2."""
    yield Plate(
        "layers",
        "Statistics per layer",
        "Each image's mean and standard deviation at the inputs of BatchNorm layers, relative to "
        "the layer's own and averaged over channels. Bars hold the middle half of the images, "
        f"lines 90 %. {_counts(sets)}",
        partial(layer_statistics, {one.label: one.table("layers") for one in sets}),
    )


def _channels(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """DSG, supplement, Fig. 1."""
    yield Plate(
        "channels",
        "Statistics of single channels",
        "Share of images by the mean and by the standard deviation of a channel at the input of a "
        "BatchNorm layer, over the image's pixels. The channel is the one of median running "
        "variance in the middle layer and in the last one. Dashed: the layer's running mean, and "
        f"the root of its running variance. {_counts(sets)}",
        partial(channel_statistics, {one.label: one.table("channels") for one in sets}),
    )


def _entropies(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """DynaDFQ, Fig. 3."""
    groups = {"test" if one.of == "test" else one.label: one.entropies for one in sets}
    outline = " The outline is that of the test images." if "test" in groups else ""
    yield Plate(
        "entropies",
        "Prediction entropy by method",
        "Share of images by the entropy of the float teacher's prediction. Each row has its number "
        f"n of images, and a vertical scale of its own.{outline}",
        partial(entropy_distribution, groups, one_scale=False),
    )


def _label_entropies(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """DynaDFQ, Fig. 5."""
    found: dict[str, dict[str, Floats]] = {}
    for one in sets:
        *others, last = ((key_words(key), value_words(value)) for key, value in one.varied.items())
        panel = ", ".join(" ".join(other) for other in others) or last[0]
        found.setdefault(panel, {})[" ".join(last)] = one.entropies
    keys = dict.fromkeys(key_words(key) for one in sets for key in one.varied)
    yield Plate(
        f"entropies-{figure['study']}",
        f"Prediction entropy by {' and '.join(keys)}",
        "Share of images by the entropy of the float teacher's prediction, for the values of the "
        f"study. {_counts(sets)}",
        partial(entropies_by_label, found),
    )


def _similar_classes(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """DynaDFQ, Figs. 9 and 10."""
    rows = {"K = 1": _fullest([one.tiles(soft=False) for one in sets])}
    for value in sorted({one.settings[K] for one in sets if K in one.settings}):
        mine = [one for one in sets if one.settings[K] == value]
        rows[f"K = {value}"] = _fullest([one.tiles(soft=True) for one in mine])
    caption = (
        "For each class the first image that was made for this class alone (K = 1), and the first "
        "ones whose label gives it the largest share among K similar classes. Shown are classes "
        f"that every row has. {LABEL_BARS} {MEAN} {_counts(sets)}"
    )
    title = "Images of one class by the number of similar classes in the label"
    yield from _tiles(f"images-{figure['study']}", title, caption, sets[0].class_names, rows)


def _easy_and_hard(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """DynaDFQ, Figs. 2a and 7."""
    [test] = sets
    ends = test.extremes()
    rows = {
        "Lowest entropy": {label: low for label, (low, _) in ends.items()},
        "Highest entropy": {label: high for label, (_, high) in ends.items()},
    }
    caption = (
        f"Of the {len(test.images):,} test images, those of lowest and of highest entropy of the "
        f"float teacher's prediction within a class. {PROBABILITY_BARS} {MEAN}"
    )
    title = "Test images of lowest and highest entropy"
    yield from _tiles("easy-and-hard", title, caption, test.class_names, rows)


def _generators(figure: Record, sets: Sequence[ImageSet]) -> Iterator[Plate]:
    """AdaDFQ, supplement, Fig. 3."""
    made = [one for one in sets if one.of == "generator"]
    test = [one for one in sets if one.of == "test"]
    if not made:
        return
    rows = {one.label: {label: low for label, (low, _) in one.extremes().items()} for one in test}
    rows |= {one.label: {**one.tiles(soft=True), **one.tiles(soft=False)} for one in made}
    lowest = (
        " Test images are those of lowest entropy in their class, and their bars the teacher's "
        "probabilities."
        if test
        else ""
    )
    caption = (
        "Images of the generator as it was after training beside a student of each width, from the "
        f"same noise and labels: the first image of each class. {LABEL_BARS}{lowest} {MEAN} "
        f"{_counts(sets)}"
    )
    title = f"Images of {figure['method']}'s generator by the student's width"
    yield from _tiles(f"generators-{figure['student']}", title, caption, sets[0].class_names, rows)


def _tiles(
    name: str,
    title: str,
    caption: str,
    names: Sequence[str],
    rows: Mapping[str, Mapping[int, Tile]],
) -> Iterator[Plate]:
    """Images of classes that every row has, at most ``COLUMNS``, evenly spaced over them."""
    common = sorted(set.intersection(*(set(row) for row in rows.values())))
    if not common or len(rows) < 2:
        return
    places = np.linspace(0, len(common) - 1, min(COLUMNS, len(common))).round().astype(int)
    shown = [common[place] for place in places]
    chosen = {}
    for heading, row in rows.items():
        tiles = [row[label] for label in shown]
        entropy = fmean(tile.entropy_nats for tile in tiles)
        chosen[f"{heading}: mean entropy {entropy:.2f} nats"] = tiles
    classes = [names[label] for label in shown]
    yield Plate(name, title, caption, partial(tile_rows, chosen, classes), classes, chosen)


def _fullest(rows: Sequence[Mapping[int, Tile]]) -> Mapping[int, Tile]:
    """The row with most classes, the first of equals."""
    return max(rows, key=len)


def _counts(sets: Sequence[ImageSet]) -> str:
    """How many images there are, once if they are as many of each kind."""
    counts = {len(one.images) for one in sets}
    if len(counts) == 1:
        return f"n = {counts.pop():,} images of each kind."
    return "n = " + ", ".join(f"{len(one.images):,} ({one.label})" for one in sets) + "."


KINDS: Mapping[str, Callable[[Record, Sequence[ImageSet]], Iterator[Plate]]] = {
    "layers": _layers,
    "channels": _channels,
    "entropies": _entropies,
    "label-entropies": _label_entropies,
    "similar-classes": _similar_classes,
    "easy-and-hard": _easy_and_hard,
    "generators": _generators,
}
