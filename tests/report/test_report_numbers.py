"""The pure functions behind the figures."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dynadfq.report import figures, matrices, measures, tables
from dynadfq.report.figures.headline import spread_out
from dynadfq.report.figures.tiles import label_parts, to_pixels
from dynadfq.report.gallery import plates
from dynadfq.report.load import load_evidence, load_images
from dynadfq.report.plots import confusion_rows
from dynadfq.report.words import against, signed


def test_class_order_puts_similar_classes_together() -> None:
    groups = np.array([0, 1, 2] * 4)
    similarity = np.where(groups[:, None] == groups[None, :], 1.0, 0.1)
    ordered = groups[matrices.class_order(similarity)]
    assert sum(a != b for a, b in pairwise(ordered)) == 2


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_class_order_of_few_classes_is_a_permutation(classes: int) -> None:
    assert sorted(matrices.class_order(np.eye(classes))) == list(range(classes))


def test_square_accepts_indices_and_names() -> None:
    names = ["cat", "dog"]
    by_index = pd.DataFrame({"a": [0, 1], "b": [1, 0], "v": [2.0, 3.0]})
    by_name = pd.DataFrame({"a": ["cat", "dog"], "b": ["dog", "cat"], "v": [2.0, 3.0]})
    expected = [[0, 2], [3, 0]]
    for table in (by_index, by_name):
        assert matrices.square(table, "a", "b", "v", names).tolist() == expected


def test_row_percent_of_a_class_without_images_is_zero() -> None:
    assert matrices.row_percent(np.array([[3.0, 1.0], [0.0, 0.0]])).tolist() == [[75, 25], [0, 0]]


def test_correlations_of_a_constant_are_undefined() -> None:
    assert math.isnan(measures.rank_correlation([1, 2, 3, 4], [5, 5, 5, 5]))
    assert math.isnan(measures.linear_correlation([1, 1, 1], [1, 2, 3]))


def test_binned_means_weighted_by_images_give_the_mean() -> None:
    rng = np.random.default_rng(1)
    entropy, value = rng.exponential(0.5, 500), rng.normal(3, 1, 500)
    bins = measures.binned_means(entropy, value, at_least=1)
    assert bins["images"].sum() == 500
    assert np.average(bins["value"], weights=bins["images"]) == pytest.approx(value.mean())
    assert bins["entropy_nats"].is_monotonic_increasing


def test_histogram_keeps_every_image_and_tolerates_empty_groups() -> None:
    values = np.array([0.0, 1e-9, 0.3, 2.3])
    table = measures.entropy_histogram({"test": values, "soft": np.array([])})
    assert table["test_percent"].sum() == pytest.approx(100)
    assert table["soft_percent"].sum() == 0


def test_paired_outcome_counts_images_where_one_student_is_right() -> None:
    table = pd.DataFrame(
        {
            "label": [0, 0, 0, 0, 0],
            "prediction": [0, 0, 0, 1, 1],
            "fixed_prediction": [0, 1, 1, 0, 1],
        }
    )
    assert tables.paired_outcome(table)[:2] == (2, 1)
    assert tables.paired_outcome(table.assign(fixed_prediction=table["prediction"])) == (0, 0, 1.0)


def test_learning_curves_stand_side_by_side_by_epoch() -> None:
    dynamic = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0]})
    fixed = pd.DataFrame({"epoch": [1, 2, 3], "loss": [4.0, 3.0, 2.0]})
    table = tables.learning_curves({"dynamic": dynamic, "fixed": fixed})
    assert table["fixed_loss"].tolist() == [4, 3, 2]
    assert table["dynamic_loss"].isna().tolist() == [False, False, True]


def test_extremes_never_share_an_image() -> None:
    synthetic = pd.DataFrame({"index": range(5), "entropy_nats": [0.5, 0.1, 0.9, 0.1, 0.3]})
    assert tables.extremes(synthetic, 2) == ([1, 3], [2, 0])
    easiest, hardest = tables.extremes(synthetic, 32)
    assert len(easiest) == len(hardest) == 2


def test_images_come_from_their_shards_in_the_order_asked(artifacts: Path) -> None:
    indices = [200, 3, 81, 80, 79]
    images, labels = load_images(artifacts, indices)
    for at, index in enumerate(indices):
        one, label = load_images(artifacts, [index])
        assert np.array_equal(images[at], one[0])
        assert np.array_equal(labels[at], label[0])
    assert images.shape == (5, 3, 32, 32)


def test_pixels_undo_the_normalization() -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    original = np.linspace(0, 1, 48).reshape(3, 4, 4)
    normalized = (original - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert (
        np.abs(to_pixels(normalized, mean, std) / 255 - original.transpose(1, 2, 0)).max()
        <= 0.5 / 255 + 1e-9
    )
    assert (
        to_pixels(np.full((1, 2, 2), 99.0), [0.5], [0.5]).tolist()
        == np.full((2, 2, 3), 255).tolist()
    )


def test_label_parts_are_ordered_and_skip_crumbs() -> None:
    assert label_parts(np.array([0.3, 0.699, 0.001]), ["a", "b", "c"]) == (("b", 0.699), ("a", 0.3))


def test_labels_are_spread_to_the_gap_and_keep_their_order() -> None:
    places = spread_out([1.0, 1.1, 1.2, 9.0], gap=1.0)
    assert all(b - a >= 1 - 1e-9 for a, b in pairwise(places))
    assert places[-1] == 9.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.001, "0.00"), (0.001, "0.00"), (1.5, "+1.50"), (-1.5, "−1.50"), (None, "—")],
)
def test_differences_carry_a_sign_unless_they_round_to_zero(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_equal_results_are_level() -> None:
    assert against(0.0) == "level with"


@pytest.mark.parametrize("classes", [10, 30, 40])
def test_names_beside_a_map_can_be_read(classes: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(classes, classes))
    names = [f"class {i}" for i in range(classes)]
    with figures.LIGHT.style():
        figure = figures.similarity_and_co_occurrence(matrix + matrix.T, np.abs(matrix), names)
        figure.draw_without_rendering()
        shown = figure.axes[0].get_yticklabels()
        assert len(shown) == classes and all(label.get_fontsize() >= 6 for label in shown)


def test_leading_classes_are_those_of_the_strongest_pairs() -> None:
    strength = np.zeros((6, 6))
    strength[4, 1], strength[0, 5], strength[5, 3], strength[2, 2] = 9, 8, 7, 99
    assert matrices.leading_classes(strength, 2).tolist() == [1, 4]
    assert matrices.leading_classes(strength, 4).tolist() == [0, 1, 4, 5]
    assert matrices.leading_classes(strength, 5).tolist() == [0, 1, 3, 4, 5]
    assert matrices.leading_classes(strength, 6).tolist() == list(range(6))


def test_of_a_thousand_classes_the_leading_ones_are_shown(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    names = [f"class {i}" for i in range(1000)]
    evidence = load_evidence(make_artifacts(tmp_path, names=names, tests=3000, synthetic=40))
    shown = {plate.name: plate for plate in plates(evidence, [], [])}
    for name, kind in (
        ("class_similarity", "most similar pairs"),
        ("confusion", "pairs confused most"),
    ):
        plate = shown[name]
        assert f"of 1,000 classes, from the {kind}" in plate.caption
        with figures.LIGHT.style():
            labels = plate.draw(figures.LIGHT).axes[0].get_yticklabels()
        assert 30 <= len(labels) <= 40
    assert len(confusion_rows(evidence)) < 3000


def test_drawing_leaves_the_users_settings_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with figures.DARK.style():
        assert mpl.rcParams["axes.facecolor"] == figures.DARK.background
    assert dict(mpl.rcParams) == before
