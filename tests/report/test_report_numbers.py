"""The pure functions behind the figures."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from dynadfq.report import matrices, tables
from dynadfq.report.figures.class_maps import similarity_and_co_occurrence
from dynadfq.report.figures.curves import learning_curves_figure
from dynadfq.report.figures.theme import DARK, LIGHT
from dynadfq.report.figures.tiles import label_parts, to_pixels
from dynadfq.report.gallery import plates
from dynadfq.report.load import load_evidence, load_images
from dynadfq.report.plots import confusion_rows
from dynadfq.report.text import number


def test_class_order_puts_similar_classes_together() -> None:
    groups = np.array([0, 1, 2] * 4)
    similarity = np.where(groups[:, None] == groups[None, :], 1.0, 0.1)
    ordered = groups[matrices.class_order(similarity)]
    assert sum(a != b for a, b in pairwise(ordered)) == 2


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_class_order_of_few_classes_is_a_permutation(classes: int) -> None:
    assert sorted(matrices.class_order(np.eye(classes))) == list(range(classes))


def test_row_percent_of_a_class_without_images_is_zero() -> None:
    assert matrices.row_percent(np.array([[3.0, 1.0], [0.0, 0.0]])).tolist() == [[75, 25], [0, 0]]


def test_leading_classes_are_those_of_the_strongest_pairs() -> None:
    strength = np.zeros((6, 6))
    for pair, value in {(4, 1): 9, (0, 5): 8, (5, 3): 7, (2, 2): 99}.items():
        strength[pair] = value
    expected = {2: [1, 4], 4: [0, 1, 4, 5], 5: [0, 1, 3, 4, 5], 6: [0, 1, 2, 3, 4, 5]}
    for count, classes in expected.items():
        assert matrices.leading_classes(strength, count).tolist() == classes


def test_binned_means_weighted_by_images_give_the_mean() -> None:
    rng = np.random.default_rng(1)
    entropy = rng.exponential(0.5, 500)
    value = rng.normal(3, 1, 500)
    bins = tables.binned_means(entropy, value, at_least=1)
    assert bins["images"].sum() == 500
    assert np.average(bins["value"], weights=bins["images"]) == pytest.approx(value.mean())
    assert bins["entropy_nats"].is_monotonic_increasing


def test_histogram_keeps_every_image_and_tolerates_empty_groups() -> None:
    values = np.array([0.0, 1e-9, 0.3, 2.3])
    table = tables.entropy_histogram({"test": values, "soft": np.array([])})
    assert table["test_percent"].sum() == pytest.approx(100)
    assert table["soft_percent"].sum() == 0


def test_learning_curves_stand_side_by_side_by_epoch() -> None:
    dynamic = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2.0]})
    fixed = pd.DataFrame({"epoch": [1, 2, 3], "loss": [4.0, 3.0, 2.0]})
    table = tables.learning_curves({"dynamic": dynamic, "fixed": fixed})
    assert table["fixed_loss"].tolist() == [4, 3, 2]
    assert table["dynamic_loss"].isna().tolist() == [False, False, True]


def test_the_kept_epoch_is_marked_on_the_curve_of_agreement() -> None:
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [3.0, 2.0, 1.0],
            "bit_flops_percent": 2.6,
            "bit_flops_percent_std": 0.0,
            "held_back_agreement": [80.0, 90.0, 85.0],
            "kept": [False, True, False],
        }
    )
    plain = history.drop(columns=["held_back_agreement", "kept"])
    for fixed, panels in ((history, 3), (plain, 3)):
        drawn = learning_curves_figure({"dynamic": history, "fixed": fixed}, 2.6, LIGHT)
        assert len(drawn.axes) == panels
    assert len(learning_curves_figure({"dynamic": plain, "fixed": plain}, 2.6, LIGHT).axes) == 2
    [panel] = [ax for ax in drawn.axes if "held-back" in ax.get_title()]
    marked = [line.get_xydata().tolist() for line in panel.lines if line.get_marker() == "o"]
    assert marked == [[[2.0, 90.0]]]


def test_extremes_never_share_an_image() -> None:
    synthetic = pd.DataFrame({"index": range(5), "entropy_nats": [0.5, 0.1, 0.9, 0.1, 0.3]})
    assert tables.extremes(synthetic, 2) == tables.extremes(synthetic, 32) == ([1, 3], [2, 0])


def test_images_come_from_their_shards_in_the_order_asked(artifacts: Path) -> None:
    indices = [200, 3, 81, 80, 79]
    images, labels = load_images(artifacts, indices)
    assert images.shape == (5, 3, 32, 32)
    for place, index in enumerate(indices):
        one, label = load_images(artifacts, [index])
        assert images[place].equal(one[0]) and labels[place].equal(label[0])


def test_pixels_undo_the_normalization() -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    original = np.linspace(0, 1, 48).reshape(3, 4, 4)
    normalized = (original - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    pixels = to_pixels(normalized, mean, std)
    assert np.abs(pixels / 255 - original.transpose(1, 2, 0)).max() <= 0.5 / 255 + 1e-9
    grey = to_pixels(np.full((1, 2, 2), 99.0), [0.5], [0.5])
    assert grey.shape == (2, 2, 3) and (grey == 255).all()


def test_label_parts_are_ordered_and_skip_crumbs() -> None:
    assert label_parts(np.array([0.3, 0.699, 0.001]), ["a", "b", "c"]) == (("b", 0.699), ("a", 0.3))


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.001, "0.00"), (0.001, "0.00"), (1.5, "+1.50"), (-1.5, "−1.50"), (math.nan, "—")],
)
def test_differences_carry_a_sign_unless_they_round_to_zero(value: float, text: str) -> None:
    assert number(value, sign=True) == text


@pytest.mark.parametrize("classes", [10, 30, 40])
def test_names_beside_a_map_can_be_read(classes: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(classes, classes))
    names = [f"class {i}" for i in range(classes)]
    with LIGHT.style():
        figure = similarity_and_co_occurrence(matrix + matrix.T, np.abs(matrix), names, LIGHT)
        figure.draw_without_rendering()
        shown = figure.axes[0].get_yticklabels()
    assert len(shown) == classes and all(label.get_fontsize() >= 6 for label in shown)


def test_of_a_thousand_classes_the_leading_ones_are_shown(
    make_artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    names = [f"class {i}" for i in range(1000)]
    evidence = load_evidence(make_artifacts(tmp_path, names=names, tests=3000))
    shown = {plate.name: plate for plate in plates(evidence, [], [])}
    for name in ("class_similarity", "confusion"):
        plate = shown[name]
        assert plate.numbers["Classes"] == "1,000"
        assert 30 <= int(plate.numbers["of these shown"]) <= 40
        with LIGHT.style():
            labels = plate.draw(LIGHT).axes[0].get_yticklabels()
        assert len(labels) == int(plate.numbers["of these shown"])
    assert len(confusion_rows(evidence)) < 3000


def test_drawing_leaves_the_users_settings_alone() -> None:
    before = dict(mpl.rcParams)
    with DARK.style():
        assert mpl.rcParams["axes.facecolor"] == DARK.background
    assert dict(mpl.rcParams) == before
