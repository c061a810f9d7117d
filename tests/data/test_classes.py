"""Which class of a network each folder is: by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from dynadfq.data.class_file import read_classes
from dynadfq.data.classes import LABELS, class_order

WNIDS, TENCH = ["n01440764", "n01443537", "n01484850"], ["tench", "goldfish", "great white shark"]


def test_names_in_another_order_are_found() -> None:
    assert class_order(["goldfish", "great_white_shark", "Tench"], TENCH).indices == (1, 2, 0)


def test_a_part_of_the_classes_will_do() -> None:
    order = class_order(["goldfish"], TENCH)
    assert order.indices == (1,) and not order.assumed


NUMBERS = [str(number) for number in range(12)]
PADDED = [f"{number:02d}" for number in range(12)]
ONE_BASED = [str(number) for number in range(1, 10)]


@pytest.mark.parametrize(
    ("names", "classes", "indices", "assumed"),
    [
        (PADDED, NUMBERS, range(12), True),
        (PADDED[:10], NUMBERS[:10], range(10), True),
        (PADDED[3:5], NUMBERS, (3, 4), True),
        (NUMBERS[:10], NUMBERS[:10], range(10), False),
        (["3", "7"], NUMBERS[:10], (3, 7), True),
        (ONE_BASED, NUMBERS[:9], range(9), True),
        (["ant", "bee", "cow"], NUMBERS[:3], range(3), True),
    ],
)
def test_numbers_for_want_of_names_are_no_names(
    names: list[str], classes: list[str], indices: Sequence[int], assumed: bool
) -> None:
    order = class_order(names, classes)
    assert order.indices == tuple(indices) and order.assumed == assumed


@pytest.mark.parametrize(
    "names",
    [
        sorted(NUMBERS),  # 0, 1, 10, 11, 2: torchvision's order, or the numbers themselves
        sorted(str(number) for number in range(1, 13)),
        ["0", "1", "2"],
    ],
)
def test_folders_that_may_be_numbers_or_sorted_names_are_ambiguous(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^root: class folders .* may be class numbers or"):
        class_order(names, NUMBERS)
    given = {name: (number,) for number, name in enumerate(names)}
    assert class_order(names, NUMBERS, given).indices == tuple(range(len(names)))


def test_labels_that_a_data_set_gives_are_not_ambiguous() -> None:
    assert class_order(NUMBERS, NUMBERS, source=LABELS).indices == tuple(range(12))


def test_names_are_adopted_where_the_network_has_none() -> None:
    assert class_order(["ant", "bee"], ["0", "1"]).names == ("ant", "bee")
    assert class_order(["ant", "bee"], ["bee", "ant"]).names == ()
    given = {"bee": (0,), "ant": (1,)}
    assert class_order(["ant"], ["0", "1"], given).names == ("bee", "ant")
    assert class_order(["ant"], ["bee", "ant"], given).names == ()
    assert class_order(["ant"], ["0", "1", "2"], given).names == ()  # of a part of the classes
    with pytest.raises(ValueError, match=r"2 class folders .* for the teacher's 3 classes, which"):
        class_order(["ant", "bee"], ["0", "1", "2"])


def test_names_are_compared_in_one_unicode_form() -> None:
    decomposed, composed = "e\u0301clair", "\u00e9clair"
    assert class_order([decomposed, "DOG"], ["dog", composed]).indices == (1, 0)
    assert class_order([decomposed], ["dog", "x"], {composed: (1,)}).indices == (1,)
    assert class_order(["Cat", "cat"], ["cat", "Cat"]).indices == (1, 0)  # letter by letter


def test_a_name_that_is_spelt_otherwise_does_not_hide_the_order() -> None:
    order = class_order(["T-shirt/top", "Trouser"], ["T-shirt", "trouser"], source=LABELS)
    assert order.indices == (0, 1) and order.assumed
    with pytest.raises(ValueError, match="name: 1 of 2 classes of the data set have no class"):
        class_order(["Trouser", "T-shirt/top"], ["T-shirt", "trouser"], source=LABELS)


def test_two_folders_of_one_class_are_refused() -> None:
    with pytest.raises(ValueError, match=r"root: 2 class folders have the same class .*: Cat, cat"):
        class_order(["Cat", "cat"], ["cat", "dog"])
    assert class_order(["Cat", "cat"], ["cat", "dog"], {"Cat": (0,), "cat": (0,)}).indices == (0, 0)


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
    assert order.indices == (1, 2) and order.origin == "as the class file says"


def test_two_classes_of_one_name_leave_their_wnids(tmp_path: Path) -> None:
    path = tmp_path / "class_index.json"
    path.write_text(json.dumps({"0": ["n1", "crane"], "1": ["n2", "crane"], "2": ["n3", "tench"]}))
    given = read_classes(path)
    assert class_order(["n3", "n2", "tench"], NUMBERS[:3], given).indices == (2, 1, 2)
    with pytest.raises(ValueError, match=r"^class_file: crane stands for 2 classes; leave one"):
        class_order(["n1", "crane"], NUMBERS[:3], given)


def test_a_name_that_a_file_repeats_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\ndog\n")
    given = read_classes(path)
    with pytest.raises(ValueError, match=r"^class_file: dog stands for 2 classes; leave one class"):
        class_order(["cat", "dog"], NUMBERS[:3], given)
    assert class_order(["cat"], NUMBERS[:3], given).indices == (0,)
    path = tmp_path / "classes.json"
    path.write_text('{"cat": 0, "dog": 1, "dog": 2}')
    with pytest.raises(ValueError, match=r'^class_file: "dog" stands in it 2 times; leave one'):
        read_classes(path)


def test_names_of_a_file_are_compared_as_those_of_a_network() -> None:
    folders = ["cat", "dog", "red_fox"]
    given = {"Cat": (0,), "Dog": (1,), "red fox": (2,)}
    assert class_order(folders, NUMBERS[:3], given).indices == (0, 1, 2)
    given = {"Cat": (0,), "cat": (1,)}
    assert class_order(["cat", "Cat"], NUMBERS[:2], given).indices == (1, 0)  # letter by letter
    with pytest.raises(ValueError, match=r"^class_file: CAT stands for 2 classes"):
        class_order(["CAT"], NUMBERS[:2], given)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_files_of_every_editor_are_read(tmp_path: Path, encoding: str, line: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(line.join(["caf\u00e9", "dog", ""]).encode(encoding))
    assert read_classes(path) == {"caf\u00e9": (0,), "dog": (1,)}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("caf\u00e9\ndog\n".encode(encoding))
    with pytest.raises(ValueError, match=r"^class_file: .*classes\.txt is not encoded in UTF-8"):
        read_classes(path)


def test_what_is_wrong_with_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"class_file: .*absent\.txt: no such file"):
        read_classes(tmp_path / "absent.txt")
    path = tmp_path / "classes.json"
    for content, message in (
        ("[", "is not valid JSON"),
        ("3", "has neither one name per line"),
        ("[[1]]", "neither"),
        ('{"²": ["tench"]}', "neither"),
        ("[" * 100_000, "is not valid JSON"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"class_file: .*{message}"):
            read_classes(path)
    with pytest.raises(ValueError, match=r"it lacks 1 class folders: tench"):
        class_order(["tench"], TENCH, {"trout": (0,)})
    with pytest.raises(ValueError, match=r"tench = 3: the teacher's classes are 0 … 2"):
        class_order(["tench"], TENCH, {"tench": (3,)})


def test_imagenets_list_of_words_gives_the_wordnet_ids(tmp_path: Path) -> None:
    path = tmp_path / "synset_words.txt"
    path.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    assert read_classes(path) == {"n01440764": (0,), "n01443537": (1,)}
    path.write_text("n01440764 tench\ngreat white shark\n")  # names of classes, as they stand
    assert read_classes(path) == {"n01440764 tench": (0,), "great white shark": (1,)}
