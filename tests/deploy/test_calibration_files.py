"""Calibration images, as other quantizers read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dynadfq.deploy import calibration
from dynadfq.deploy.calibration import write_calibration
from dynadfq.deploy.images import CLASS_WEIGHTS, class_weight, make_images
from dynadfq.deploy.work import Work
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


def of_set(images: SyntheticSet) -> Tensor:
    return images.take(torch.arange(len(images))).images


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("values", ["float32", "uint8"])
def test_arrays_hold_the_images(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, layout: Any, values: Any
) -> None:
    args = (teacher.preprocessing, "x", values, layout)
    one = write_calibration(synthetic, tmp_path / "a.npz", *args)
    other = write_calibration(synthetic, tmp_path / "a.npy", *args)
    with np.load(one.path) as file:
        assert file.files == ["x"]
        array = file["x"]
    assert np.array_equal(array, np.load(other.path))
    assert (one.shape, one.dtype) == (array.shape, str(array.dtype))
    found = torch.from_numpy(array if layout == "nchw" else np.moveaxis(array, -1, 1))
    if values == "float32":
        assert torch.equal(found, of_set(synthetic))
    else:
        exact = teacher.preprocessing.denormalize(of_set(synthetic))
        assert torch.equal(found, exact.clamp(0, 255).round().byte())
        outside = ((exact < -0.5) | (exact > 255.5)).double().mean()
        assert one.clipped_percent == pytest.approx(100 * float(outside))


@pytest.mark.parametrize("name", ["images", "rel-1.0"])
def test_a_folder_holds_the_same_pixels(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, name: str
) -> None:
    if "." in name:
        with pytest.raises(
            InvalidArgument, match=r"^to: .*; make one with a dot in its name first"
        ):
            write_calibration(synthetic, tmp_path / name, teacher.preprocessing)
        (tmp_path / name).mkdir()
    write_calibration(synthetic, tmp_path / name, teacher.preprocessing)
    array = write_calibration(
        synthetic, tmp_path / "a.npy", teacher.preprocessing, values="uint8", layout="nhwc"
    )
    files = sorted((tmp_path / name).iterdir())
    assert [file.name for file in files[:2]] == ["00000.png", "00001.png"]
    read = np.stack([np.asarray(Image.open(file)) for file in files])
    assert np.array_equal(read, np.load(array.path))


def test_a_folder_is_written_as_a_whole_or_not_at_all(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def killed(path: Path, data: bytes) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        atomic_write(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(calibration, "atomic_write", killed)
        write_calibration(synthetic, tmp_path / "images", teacher.preprocessing)
    assert not (tmp_path / "images").exists()
    write_calibration(synthetic, tmp_path / "images", teacher.preprocessing)
    assert len(list((tmp_path / "images").iterdir())) == len(synthetic)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("name", ["", "file", "allow_pickle"])
def test_a_key_that_no_npz_file_can_have_is_refused(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidArgument, match=r"^name: .* is no key that an"):
        write_calibration(synthetic, tmp_path / "a.npz", teacher.preprocessing, name)
    assert not list(tmp_path.iterdir())


def test_pixels_come_back_from_normalized_values(teacher: Teacher) -> None:
    pixels = torch.arange(256).repeat(3, 1).view(1, 3, 16, 16).byte()
    back = teacher.preprocessing.denormalize(teacher.preprocessing.normalize(pixels))
    assert torch.equal(back.round().byte(), pixels)


@pytest.mark.parametrize(
    ("name", "reason"), [("a.txt", r"\.npz or \.npy"), ("full", "no empty folder"), (".", "empty")]
)
def test_a_target_is_refused_before_the_work(
    teacher: Teacher, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ValueError, match=reason):
        calibration.check_target(tmp_path / name, teacher.preprocessing)


def test_the_class_term_is_as_strong_as_the_network_needs(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    recognized = dict(zip(CLASS_WEIGHTS, (0.0, 89.0, 90.0, 100.0), strict=True))

    class Trial:
        def __init__(self, weight: float) -> None:
            asked.append(weight)
            self.one_hot_recognized = recognized[weight]

    monkeypatch.setattr("dynadfq.deploy.images._made", lambda *args, **options: Trial(args[4]))
    assert class_weight(teacher, 1, 0, Work(tmp_path, "x")) == 10.0
    recognized[10.0] = 0.0
    assert class_weight(teacher, 1, 0, Work(tmp_path, "x")) == 100.0
    assert asked == [0.1, 1.0, 10.0] * 2


def test_images_are_made_once(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work.beside(tmp_path / "calib.npz", teacher, 4)
    first = make_images(teacher, 4, 2, 0, work)
    monkeypatch.setattr("dynadfq.deploy.images.synthesize_set", None)
    again = make_images(teacher, 4, 2, 0, work)
    assert torch.equal(of_set(first), of_set(again))
    assert Work.beside(tmp_path / "calib.npz", teacher, 5).folder != work.folder
    work.delete()
    assert list(tmp_path.iterdir()) == []
