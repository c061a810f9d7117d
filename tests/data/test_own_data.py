"""Data sets of a user's own: folders of images, and (image, label) sets by import path."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from damage import DAMAGES
from PIL import Image
from torch import Tensor

from dynadfq.data import decoded
from dynadfq.data import loading as data
from dynadfq.data.decoded import decoded_files
from dynadfq.data.labelled import LabelledSet, evenly_spaced
from dynadfq.ops.preprocess import Preprocessing, read_image
from dynadfq.runtime.progress import Progress
from stages.labelled import labelled_set

PREPROCESSING = Preprocessing((3, 8, 8), (0.5, 0.4, 0.6), (0.2, 0.3, 0.25), resize=10)
NAMES = ("cat", "dog", "emu")


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Decoded images lie below a folder of the test."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of images of different sizes and modes, to train and to evaluate, and what is
    no image."""
    modes = [("RGB", (9, 14, 3)), ("L", (12, 12)), ("RGBA", (16, 11, 4)), ("CMYK", (10, 10, 4))]
    for part, count in (("train", 6), ("val", 4)):
        for number, name in enumerate(NAMES):
            place = tmp_path / "pictures" / part / name
            place.mkdir(parents=True)
            (place / "notes.txt").write_text("no image")
            for i in range(count):
                mode, shape = modes[i % 4]
                image = Image.fromarray(noise(100 * number + i, *shape), mode)
                image.save(place / f"{i}.{'png' if mode != 'CMYK' else 'tif'}")
    return tmp_path / "pictures"


def files(folder: Path, part: str = "val") -> list[Path]:
    return sorted(path for path in (folder / part).rglob("*.*") if path.suffix != ".txt")


def load(folder: Path, **options: Any) -> LabelledSet:
    options = {"preprocessing": PREPROCESSING, "class_names": NAMES} | options
    return data.load("image-folder", folder, **options)


def test_a_mapped_set_is_what_its_files_are_in_memory(folder: Path) -> None:
    found = load(folder)
    assert torch.equal(
        found.pixels, torch.stack([read_image(path, PREPROCESSING) for path in files(folder)])
    )
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(load(folder, train=True)) == 18
    batches = list(found.batches(5))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert torch.equal(
        torch.cat([images for images, _ in batches]), PREPROCESSING.normalize(found.pixels)
    )
    chosen = evenly_spaced(len(found), 5)
    fewer = load(folder, count=5)
    assert torch.equal(fewer.pixels, found.pixels[chosen])
    assert torch.equal(fewer.labels, found.labels[chosen])


def test_only_the_images_that_are_wanted_are_decoded_and_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counting(path: Path, preprocessing: Preprocessing) -> Tensor:
        read.append(path)
        return read_image(path, preprocessing)

    monkeypatch.setattr(decoded, "read_image", counting)
    for _ in range(2):
        load(folder, count=3)
    assert sorted(read) == [files(folder)[i] for i in (0, 4, 8)]
    files(folder)[4].touch()
    load(folder, count=3)
    load(folder, count=3, preprocessing=Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3))
    assert len(read) == 9


def test_files_are_decoded_when_they_are_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(folder)
    found = data.open_labelled("image-folder", folder, False, PREPROCESSING, class_names=NAMES)
    assert isinstance(found, decoded.LabelledFiles)
    assert torch.equal(found.labels, whole.labels) and found.classes == whole.classes
    read: list[Path] = []

    def counting(path: Path, preprocessing: Preprocessing) -> Tensor:
        read.append(path)
        return read_image(path, preprocessing)

    monkeypatch.setattr(decoded, "read_image", counting)
    some = torch.tensor([5, 0])
    assert torch.equal(found.images(some), whole.images(some))
    assert sorted(read) == [files(folder)[0], files(folder)[5]]
    for own, other in zip(found.batches(4), whole.batches(4), strict=True):
        assert torch.equal(own[0], other[0]) and torch.equal(own[1], other[1])


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_killed_decoding_is_not_taken_for_whole_and_goes_on(
    folder: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    class Killed(BaseException):
        pass

    def killing(progress: Progress, **_: float) -> None:
        if progress.done == after:
            raise Killed
        progress.done += 1

    paths, scratch = files(folder), repository / "scratch"
    whole = decoded_files(paths, PREPROCESSING, repository / "elsewhere")
    with monkeypatch.context() as kill, pytest.raises(Killed):
        kill.setattr(Progress, "step", killing)
        decoded_files(paths, PREPROCESSING, scratch)
    [part] = scratch.rglob("pixels.part")
    assert not list(scratch.rglob("pixels.bin")) and part.stat().st_size == (after + 1) * 192
    with part.open("ab") as file:
        file.write(b"half an image")
    monkeypatch.setattr(decoded, "read_image", lambda path, _: read_image(path, PREPROCESSING))
    assert torch.equal(decoded_files(paths, PREPROCESSING, scratch), whole)
    assert not list(scratch.rglob("pixels.part"))


@pytest.mark.parametrize("damage", ["truncated", "emptied", "a folder", "a loop"])
def test_decoded_images_that_were_damaged_are_decoded_again(
    folder: Path, repository: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    paths, scratch = files(folder), repository / "scratch"
    whole = decoded_files(paths, PREPROCESSING, scratch).clone()
    [pixels] = scratch.rglob("pixels.bin")
    DAMAGES[damage](pixels)
    assert torch.equal(decoded_files(paths, PREPROCESSING, scratch), whole)
    assert f"{pixels} is damaged: it was renamed to pixels.bin.damaged" in capsys.readouterr().err


def test_a_file_that_is_no_image_is_named(folder: Path, repository: Path) -> None:
    broken = files(folder)[7]
    broken.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=f"{broken}: not an image"):
        load(folder)
    assert not list(repository.rglob("pixels.bin"))


def test_folders_are_found_where_imagenet_has_them(folder: Path, tmp_path: Path) -> None:
    expected = load(folder).pixels
    assert data.class_names("image-folder", folder) == NAMES
    assert torch.equal(load(folder / "val").pixels, expected)
    (folder / "val").rename(folder / "test")
    assert torch.equal(load(folder).pixels, expected)
    (folder / "test").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"root: .* has no folder val/ or test/"):
        load(folder)
    with pytest.raises(FileNotFoundError, match=r"has no folder train/"):
        load(tmp_path / "elsewhere", train=True)
    with pytest.raises(FileNotFoundError, match=r"root: .*nowhere is not a folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "bare" / "cat").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no image"):
        load(tmp_path / "bare")


@pytest.mark.parametrize("name", ["train", "val", "test", "validation"])
def test_a_class_may_have_the_name_of_a_part(folder: Path, name: str) -> None:
    (folder / "val" / "dog").rename(folder / "val" / name)
    root, names = folder / "val", ("cat", "emu", name)
    for place in (root, folder):  # the class folders themselves, and their part
        assert sorted(load(place, class_names=names).labels.tolist()) == sorted([0, 1, 2] * 4)


def test_labels_are_the_teachers_classes(folder: Path) -> None:
    found = load(folder, class_names=["Emu", "horse", "DOG", "cat"])
    assert found.labels.tolist() == [3] * 4 + [2] * 4 + [0] * 4
    assert (
        found.classes is not None
        and found.classes.origin == "by name, 3 of the teacher's 4 classes"
    )


def test_hidden_folders_and_files_are_no_classes_and_no_images(folder: Path) -> None:
    expected = load(folder)
    for junk in (".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints"):
        shutil.copytree(folder / "val" / "dog", folder / "val" / junk)
    (folder / "val" / "cat" / "._0.png").write_bytes(b"\0\5\x16\7Mac OS X")
    found = load(folder)
    assert torch.equal(found.pixels, expected.pixels) and torch.equal(found.labels, expected.labels)
    assert found.classes is not None
    assert found.classes.origin.endswith("are passed over: .ipynb_checkpoints, __MACOSX")
    assert data.class_names("image-folder", folder / "val") == NAMES


def test_every_source_of_images_is_matched_by_name(
    own: Callable[..., LabelledSet], repository: Path
) -> None:
    # Their classes are dog, cat, emu, of which items have 0, 1, 2, 0, …
    assert own("named", class_names=["cat", "DOG", "emu"]).labels.tolist()[:3] == [1, 0, 2]
    found = own("named", class_names=["emu", "cow", "cat", "dog"])
    assert found.labels.tolist()[:3] == [3, 2, 0]
    assert found.classes is not None and found.classes.origin.startswith("by name")
    with pytest.raises(ValueError, match="name: 2 of 3 classes of the data set have no class of"):
        own("named", class_names=["cat", "bee", "cow"])
    digits = data.load("digits", count=20)
    turned = data.load("digits", count=20, class_names=tuple(reversed("0123456789")))
    assert turned.labels.tolist() == [9 - label for label in digits.labels.tolist()]
    same = data.load("digits", count=20, class_names=tuple("0123456789"))
    assert torch.equal(same.labels, digits.labels) and same.classes is None
    nameless = own("arrays").classes
    assert nameless is not None and nameless.origin == "labels of a data set without class names"
    names = repository / "classes.txt"
    names.write_text("cat\ndog\nemu\n")
    assert own("named", class_file=names).labels.tolist()[:3] == [1, 0, 2]
    with pytest.raises(ValueError, match=r"class_file: users_own:arrays has no class names"):
        own("arrays", class_file=names)


def test_an_evaluation_that_lacks_a_class_is_numbered_as_the_training(folder: Path) -> None:
    shutil.rmtree(folder / "val" / NAMES[0])
    source = SimpleNamespace(name="image-folder", root=str(folder), classes=None)
    train, val = (labelled_set(source, part, PREPROCESSING, NAMES) for part in (True, False))
    assert train.labels.unique().tolist() == [0, 1, 2] and val.labels.unique().tolist() == [1, 2]


SVHN_LIKE = """
import numpy as np, torch
from PIL import Image

def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (3, 8, 8), dtype=np.uint8)

class Items:
    def __init__(self, make, total=7):
        self.make, self.total = make, total
    def __len__(self):
        return self.total
    def __getitem__(self, i):
        return self.make(i)

def arrays(train): return Items(lambda i: (pixels(i), i % 3), 9 if train else 7)
def tensors(root, train): return Items(lambda i: (torch.from_numpy(pixels(i)), torch.tensor(i % 3)))
def picture(i): return Image.fromarray(pixels(i).transpose(1, 2, 0))
def pictures(): return Items(lambda i: (picture(i), np.int64(i % 3)))
def grey(): return Items(lambda i: (pixels(i)[0], i % 3))
def named():
    items = Items(lambda i: (pixels(i), i % 3))
    items.classes = ["dog", "cat", "emu"]
    return items
def floats(): return Items(lambda i: (torch.zeros(3, 8, 8), 0))
def last(): return Items(lambda i: (pixels(i).transpose(1, 2, 0), 0))
def words(): return Items(lambda i: (pixels(i), "cat"))
def single(): return Items(lambda i: pixels(i))
def many(): return Items(lambda i: (pixels(i), i))
def nothing(): return iter([])
def empty(): return []
def greedy(path): return []
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LabelledSet]:
    """Loads what a module of the user's returns."""
    (tmp_path / "users_own.py").write_text(SVHN_LIKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("users_own", None)
    plain = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)
    return lambda name, **options: data.load(
        f"users_own:{name}", tmp_path, **{"preprocessing": plain, "class_names": NAMES} | options
    )


def test_every_form_of_an_item_gives_the_same_pixels(
    own: Callable[..., LabelledSet], repository: Path
) -> None:
    expected = torch.stack([torch.from_numpy(noise(i, 3, 8, 8)) for i in range(7)])
    for name in ("arrays", "tensors", "pictures"):
        found = own(name)
        assert torch.equal(found.pixels, expected) and found.labels.tolist() == [
            0,
            1,
            2,
            0,
            1,
            2,
            0,
        ]
    assert torch.equal(own("grey").pixels, expected[:, :1].expand(-1, 3, -1, -1))
    assert len(own("arrays", train=True)) == 9
    assert own("arrays", count=3).labels.tolist() == [0, 2, 1]  # items 0, 2 and 4
    assert own("named").labels.tolist() == [1, 0, 2, 1, 0, 2, 1]
    assert data.class_names("users_own:named") == ("dog", "cat", "emu")
    assert not list((repository / ".scratch").iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "floats",
            r"item 0 of users_own:floats is float32 of shape \(3, 8, 8\), .*give PIL images",
        ),
        ("last", r"is uint8 of shape \(8, 8, 3\); give PIL images, or uint8 of shape \(C, H, W\)"),
        ("words", r"the label of item 0 of users_own:words is of type str; give an integer"),
        ("single", r"item 0 of users_own:single is uint8 of shape \(3, 8, 8\); give a pair"),
        ("many", r"a label of users_own:many is 3, outside the 3 classes, 0 … 2"),
        (
            "nothing",
            r"users_own:nothing returned list_iterator; return a data set with len\(\)",
        ),
        ("empty", "users_own:empty returned a data set without images to evaluate on"),
        ("greedy", "'users_own:greedy' is called with root and train at most"),
    ],
)
def test_what_is_wrong_with_an_item_is_said(
    own: Callable[..., LabelledSet], name: str, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"^name: .*{message}"):
        own(name)


def test_an_import_path_that_leads_nowhere_says_so(own: Callable[..., LabelledSet]) -> None:
    with pytest.raises(ImportError, match=r"name: 'users_own:absent' cannot be imported"):
        own("absent")


def test_torchvisions_sets_are_asked_for_the_part_they_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision import datasets

    asked: list[str] = []

    class Flowers:
        def __init__(
            self, root: str, split: str = "train", transform: object = None, download: bool = False
        ) -> None:
            asked.append(split)
            if split not in ("train", "val"):
                raise ValueError(f"Unknown value '{split}' for argument split.")

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(noise(index, 12, 9, 3)), index

    monkeypatch.setattr(datasets, "Flowers102", Flowers)
    options = {"preprocessing": PREPROCESSING, "class_names": list("abcd")}
    assert data.load("torchvision/Flowers102", tmp_path, **options).labels.tolist() == [0, 1, 2, 3]  # type: ignore[arg-type]
    data.load("torchvision/Flowers102", tmp_path, True, **options)  # type: ignore[arg-type]
    assert asked == ["test", "val", "train"]
    fake = data.load(
        "torchvision/FakeData", tmp_path, count=2, **options | {"class_names": list("abcdefghij")}
    )  # type: ignore[arg-type]
    assert fake.pixels.shape == (2, 3, 8, 8)


def test_a_known_set_is_fitted_to_any_network(repository: Path) -> None:
    small, colour = data.load("digits"), Preprocessing((3, 12, 12), (0.5,) * 3, (0.5,) * 3)
    fitted = data.load("digits", preprocessing=colour, count=10)
    chosen = evenly_spaced(len(small), 10)
    assert fitted.pixels.shape == (10, 3, 12, 12)
    assert torch.equal(fitted.labels, small.labels[chosen])
    alone = colour.pixels(Image.fromarray(small.pixels[chosen[4], 0].numpy()))
    assert torch.equal(fitted.pixels[4], alone)
