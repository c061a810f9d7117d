"""Which class of a network each folder is: by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynadfq.data.classes import class_order, read_classes

WNIDS, TENCH = ["n01440764", "n01443537", "n01484850"], ["tench", "goldfish", "great white shark"]


def test_names_in_another_order_are_found() -> None:
    assert class_order(["goldfish", "great_white_shark", "Tench"], TENCH).indices == (1, 2, 0)


def test_a_part_of_the_classes_will_do() -> None:
    order = class_order(["goldfish"], TENCH)
    assert order.indices == (1,) and not order.assumed


def test_folders_that_are_numbers_are_class_numbers() -> None:
    assert class_order(["0", "1", "10", "2"], list(map(str, range(11)))).indices == (0, 1, 10, 2)


def test_wnids_are_taken_to_be_in_order() -> None:
    order = class_order(WNIDS, TENCH)
    assert order.indices == (0, 1, 2) and order.assumed
    assert order.origin.endswith("in order; first n01440764 = tench")


def test_what_fits_neither_way_is_an_error_with_counts() -> None:
    with pytest.raises(
        ValueError,
        match=r"root: 2 class folders \(n01440764, n01443537\) for the teacher's 3 ",
    ):
        class_order(WNIDS[:2], TENCH)
    with pytest.raises(
        ValueError, match=r"1 of 2 class folders have no class of the teacher by that name: trout"
    ):
        class_order(["tench", "trout"], TENCH)
    with pytest.raises(ValueError, match="more than one class named crane"):
        class_order(["crane"], ["crane", "crane", "tench"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "n01440764\nn01443537\n\nn01484850\n"),
        ("classes.json", json.dumps(WNIDS)),
        ("classes.json", json.dumps({name: i for i, name in enumerate(WNIDS)})),
        (
            "class_index.json",
            json.dumps({str(i): [w, n] for i, (w, n) in enumerate(zip(WNIDS, TENCH, strict=True))}),
        ),
    ],
)
def test_a_file_says_which_is_which(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    order = class_order(WNIDS[1:], TENCH, read_classes(path))
    assert order.indices == (1, 2) and order.origin == "as data.classes says"


def test_two_classes_of_one_name_leave_their_wnids(tmp_path: Path) -> None:
    path = tmp_path / "class_index.json"
    path.write_text(json.dumps({"0": ["n1", "crane"], "1": ["n2", "crane"], "2": ["n3", "tench"]}))
    assert read_classes(path) == {"n1": 0, "n2": 1, "n3": 2, "tench": 2}


def test_what_is_wrong_with_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"class_file: .*absent\.txt: no such file"):
        read_classes(tmp_path / "absent.txt")
    path = tmp_path / "classes.json"
    for content, message in (
        ("[", "is not valid JSON"),
        ("3", "has neither one name per line"),
        ("[[1]]", "neither"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"class_file: .*{message}"):
            read_classes(path)
    with pytest.raises(ValueError, match=r"it lacks 1 class folders: tench"):
        class_order(["tench"], TENCH, {"trout": 0})
    with pytest.raises(ValueError, match=r"tench = 3: the teacher's classes are 0 … 2"):
        class_order(["tench"], TENCH, {"tench": 3})
