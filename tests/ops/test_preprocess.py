from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize
from torchvision.transforms._presets import ImageClassification

from dynadfq.api import quantize
from dynadfq.data import loading as data
from dynadfq.data.sets import CARDS
from dynadfq.ops.config import Interpolation
from dynadfq.ops.preprocess import Preprocessing, read_image
from dynadfq.teacher.teacher import Teacher

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def colour(side: int, width: int | None = None) -> Preprocessing:
    return Preprocessing((3, side, width or side), *IMAGENET)


def save(path: Path, pixels: Tensor) -> Path:
    Image.fromarray(
        pixels.squeeze(0).numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    ).save(path)
    return path


def photograph(width: int, height: int) -> Image.Image:
    """Waves and noise: every resampling filter answers differently."""
    y, x, c = np.mgrid[:height, :width, :3]
    waves = 90 + 60 * np.sin(x / 7) * np.cos(y / (5 + 3 * c))
    noise = np.random.default_rng(0).integers(0, 100, waves.shape)
    return Image.fromarray((waves + noise).clip(0, 255).astype(np.uint8))


def test_a_test_image_that_went_through_a_file_is_the_same(tmp_path: Path) -> None:
    preprocessing = Preprocessing((1, 16, 16), CARDS["digits"].mean, CARDS["digits"].std)
    small = data.load("digits")
    large = data.load("digits", preprocessing=preprocessing)
    for i in range(5):
        path = save(tmp_path / f"{i}.png", small.pixels[i])
        pixels = read_image(path, preprocessing)
        assert torch.equal(pixels, large.pixels[i])
        expected = large.normalize(large.pixels[i : i + 1])[0]
        assert torch.equal(preprocessing.normalize(pixels), expected)


SIZES = [(500, 375), (375, 501), (259, 259), (1000, 257), (224, 224), (100, 57)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("resize", "interpolation"), [(256, "bilinear"), (232, "bicubic"), (224, "nearest")]
)
def test_imagenet_images_are_those_of_torchvision(
    size: tuple[int, int], resize: int, interpolation: Interpolation
) -> None:
    image, ours = photograph(*size), Preprocessing((3, 224, 224), *IMAGENET, resize, interpolation)
    mode = InterpolationMode(interpolation)
    pixels = ours.pixels(image)
    assert torch.equal(
        pixels, Compose([Resize(resize, mode), CenterCrop(224), PILToTensor()])(image)
    )
    theirs = ImageClassification(crop_size=224, resize_size=resize, interpolation=mode)(image)
    torch.testing.assert_close(ours.normalize(pixels), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_read_as_eight(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 64).reshape(8, 8)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / f"long.{suffix}")
    Image.fromarray((ramp / 257).round().astype(np.uint8)).save(tmp_path / f"short.{suffix}")
    reading = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3)
    long, short = (read_image(tmp_path / f"{name}.{suffix}", reading) for name in ("long", "short"))
    assert (long.int() - short.int()).abs().max() <= 1 and short.float().mean() == pytest.approx(
        127.5, abs=0.5
    )


def test_numbers_of_an_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((8, 8), dtype=np.float32)).save(
        tmp_path / "floats.tif"
    )
    with pytest.raises(
        ValueError,
        match=r"floats\.tif: pixels are 32-bit numbers \(mode F\), whose range is unknown",
    ):
        read_image(tmp_path / "floats.tif", Preprocessing((1, 8, 8), (0.5,), (0.5,)))


def test_a_broken_png_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> None:
        raise SyntaxError("broken PNG file (chunk b'IDAT')")  # what Pillow raises

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(
        ValueError, match=r"broken\.png: not an image that can be read \(broken PNG file"
    ):
        read_image(tmp_path / "broken.png", Preprocessing((1, 8, 8), (0.5,), (0.5,)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18.a1_in1k", "tf_efficientnet_lite2"]
)
def test_imagenet_images_are_those_of_timm(size: tuple[int, int], name: str) -> None:
    timm = pytest.importorskip("timm")
    config = timm.data.resolve_data_config(timm.get_pretrained_cfg(name).to_dict())
    side = config["input_size"][1]
    resize = int(side / config["crop_pct"])
    ours = Preprocessing(
        config["input_size"], config["mean"], config["std"], resize, config["interpolation"]
    )
    image = photograph(*size)
    theirs = timm.data.create_transform(**config, is_training=False)(image)
    torch.testing.assert_close(ours.normalize(ours.pixels(image)), theirs, atol=1e-6, rtol=0)


def test_the_middle_is_kept_and_the_aspect_ratio(tmp_path: Path) -> None:
    pixels = torch.zeros(3, 10, 30, dtype=torch.uint8)
    pixels[0, :, 10:20] = 200
    path = save(tmp_path / "wide.png", pixels)
    assert torch.equal(read_image(path, colour(10)), pixels[:, :, 10:20])
    half = read_image(path, colour(5))
    assert half.shape == (3, 5, 5) and (half[0, :, 1:4] == 200).all()
    assert read_image(path, colour(10, 30)).equal(pixels)
    assert read_image(path, colour(32)).shape == (3, 32, 32)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [None, 20])
def test_a_plain_image_stays_plain(resize: int | None, interpolation: Interpolation) -> None:
    preprocessing = Preprocessing((3, 16, 16), *IMAGENET, resize, interpolation)
    for size in [(16, 16), (40, 30), (7, 9), (20, 20)]:
        pixels = preprocessing.pixels(Image.new("RGB", size, (10, 90, 250)))
        assert pixels.shape == (3, 16, 16) and pixels.dtype == torch.uint8
        assert [plane.unique().tolist() for plane in pixels] == [[10], [90], [250]]


def test_grey_and_colour_are_what_the_network_reads(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", torch.full((1, 4, 4), 90, dtype=torch.uint8))
    assert read_image(grey, colour(4)).unique().tolist() == [90]
    assert read_image(grey, Preprocessing((1, 4, 4), (0.5,), (0.5,))).shape == (1, 4, 4)
    with pytest.raises(ValueError, match="reads 4 channels"):
        read_image(grey, Preprocessing((4, 4, 4), (0.5,) * 4, (0.5,) * 4))


def test_an_image_stands_as_its_exif_entry_says(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (8, 4)), Image.Exif()
    image.putpixel((0, 0), (255, 255, 255))
    exif[0x0112] = 3  # turned by 180°
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = read_image(tmp_path / "turned.png", colour(4, 8))
    assert pixels[0, 3, 7] == 255 and pixels.count_nonzero() == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5,)}, "mean: [0.5] has 1 values for 3 channels"),
        ({"std": (1.0,) * 4}, "std: [1.0, 1.0, 1.0, 1.0] has 4 values for 3 channels"),
        ({"resize": 15}, "resize: 15 pixels are fewer than input_shape, 16"),
        (
            {"interpolation": "lanczos"},
            'interpolation: must be one of nearest, bilinear, bicubic; got "lanczos"',
        ),
    ],
)
def test_values_that_do_not_fit(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"input_shape": (3, 16, 16), "mean": (0.5,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError) as error:
        Preprocessing(**(good | change))  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_teacher_and_its_student_have_the_same(teacher: Teacher) -> None:
    teacher.resize, teacher.interpolation = 10, "bicubic"
    student = quantize(teacher)
    expected = Preprocessing((3, 8, 8), teacher.mean, teacher.std, 10, "bicubic")
    assert (
        teacher.preprocessing
        == student.preprocessing
        == Preprocessing.of(teacher.describe())
        == expected
    )
    for key in ("resize", "interpolation"):  # as files were before these keys
        del student.description[key]
    assert student.preprocessing == Preprocessing((3, 8, 8), teacher.mean, teacher.std)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ValueError, match=r"text\.png: not an image that can be read"):
        read_image(tmp_path / "text.png", colour(4))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png", colour(4))


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG file that says it has so many grey pixels."""
    fields = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + fields))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + fields + checksum


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((20_000, 6_000), "the image has 20,000 × 6,000 pixels, and at most 100,000,000 are"),
        ((200_000, 200_000), "it has too many pixels"),
    ],
)
def test_a_small_file_of_very_many_pixels_is_not_decoded(
    tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size) + struct.pack(">I", 4) + b"IDAT" + bytes(8))
    with pytest.raises(ValueError, match=rf"bomb\.png: {message}"):
        read_image(path, colour(8))


@pytest.mark.parametrize("resize", [None, 256])
@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1)])
def test_a_line_of_pixels_is_not_scaled_to_a_huge_image(
    tmp_path: Path, size: tuple[int, int], resize: int | None
) -> None:
    path = tmp_path / "line.png"
    Image.new("L", size).save(path)
    with pytest.raises(ValueError, match=rf"line\.png: the image of {size[0]} × {size[1]}, scaled"):
        read_image(path, replace(colour(224), resize=resize))
