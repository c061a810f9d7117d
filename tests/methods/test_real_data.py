"""Real data: the one method that reads labelled images, and only when it is told so."""

import pytest
import torch
from imports import closure
from PIL import Image
from torch import nn

from dynadfq.data import decoded
from dynadfq.data import loading as data
from dynadfq.data.labelled import drawn
from dynadfq.data.sets import CARDS
from dynadfq.methods import METHODS
from dynadfq.methods.base import MethodContext
from dynadfq.methods.real_data import Images
from dynadfq.ops.preprocess import read_image
from dynadfq.params.loading import check
from dynadfq.params.view import narrow
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.teacher import Teacher
from stages import synthesize


@pytest.fixture(scope="module")
def digits_teacher():
    card = CARDS["digits"]
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return Teacher(module, (1, 8, 8), 10, card.mean, card.std)


def take(teacher, folder, count, seed=0, data="digits", **settings):
    recipe = Images(data=data, **settings).recipe(MethodContext(teacher, torch.zeros(10, 10), seed))
    return synthesize_set(
        recipe.source(teacher, PixelOptimizerConfig()),
        count,
        40,
        seed,
        folder,
        Scratch(folder / "scratch"),
    )


def test_no_other_method_reaches_labelled_data():
    reaching = {
        name
        for name in METHODS
        if any(path.startswith("dynadfq/data/") for path in closure(f"dynadfq/methods/{name}.py"))
    }
    assert reaching == {"real_data"}


def test_images_are_training_images_none_twice(digits_teacher, tmp_path):
    images = take(digits_teacher, tmp_path, 100).take(torch.arange(100))
    training = data.load("digits", train=True)
    context = {
        tuple(pixels.flatten().tolist()): int(label)
        for pixels, label in zip(training.normalize(training.pixels), training.labels, strict=True)
    }
    found = [tuple(pixels.flatten().tolist()) for pixels in images.images]
    assert len(set(found)) == 100
    assert [context[pixels] for pixels in found] == images.soft_labels.argmax(dim=1).tolist()
    assert images.soft_labels.amax(dim=1).eq(1).all()


def test_the_seed_decides_and_a_longer_set_begins_the_same(digits_teacher, tmp_path):
    short = take(digits_teacher, tmp_path / "a", 40).take(torch.arange(40)).images
    longer = take(digits_teacher, tmp_path / "b", 80).take(torch.arange(40)).images
    other = take(digits_teacher, tmp_path / "c", 40, seed=1).take(torch.arange(40)).images
    assert torch.equal(short, longer) and not torch.equal(short, other)


def test_balanced_classes_come_in_turn(digits_teacher, tmp_path):
    labels = (
        take(digits_teacher, tmp_path, 50, class_balanced=True).take(torch.arange(50)).soft_labels
    )
    assert labels.sum(dim=0).eq(5).all()


def test_drawing_is_a_permutation_either_way():
    labels = torch.tensor([2, 2, 2, 0, 0, 1])
    for balanced in (False, True):
        order = drawn(labels, balanced, torch.Generator().manual_seed(0))
        assert sorted(order.tolist()) == list(range(6))
    assert sorted(labels[drawn(labels, True, torch.Generator().manual_seed(0))[:3]].tolist()) == [
        0,
        1,
        2,
    ]


def test_more_images_than_there_are_is_an_error_that_names_the_key(digits_teacher, tmp_path):
    with pytest.raises(ValueError, match=r"num_images.*1257"):
        take(digits_teacher, tmp_path, 1300)


def test_of_a_folder_only_the_images_that_are_taken_are_decoded(
    digits_teacher, tmp_path, monkeypatch
):
    for label in range(10):
        place = tmp_path / "pictures" / "train" / str(label)
        place.mkdir(parents=True)
        for number in range(8):
            Image.new("L", (8, 8), 20 * label + number).save(place / f"{number}.png")
    read = []

    def counting(path, preprocessing):
        read.append(path)
        return read_image(path, preprocessing)

    monkeypatch.setattr(decoded, "read_image", counting)
    found = take(
        digits_teacher, tmp_path / "set", 50, data="image-folder", root=str(tmp_path / "pictures")
    )
    assert len(read) == len(set(read)) == 50
    batch = found.take(torch.arange(50))
    preprocessing = digits_teacher.preprocessing
    for path, image, label in zip(read, batch.images, batch.soft_labels, strict=True):
        assert int(label.argmax()) == int(path.parent.name)
        assert torch.equal(image, preprocessing.normalize(read_image(path, preprocessing)))


@pytest.fixture
def pictures(tmp_path):
    """A folder with an image of each class, and a class file."""
    for label in range(10):
        place = tmp_path / "pictures" / "train" / f"digit {label}"
        place.mkdir(parents=True)
        Image.new("L", (8, 8), 20 * label).save(place / "0.png")
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(f"digit {label}" for label in range(10)))
    names = {"data": "image-folder", "root": str(tmp_path / "pictures"), "classes": str(classes)}
    return classes, names


def test_images_are_taken_only_from_files_of_the_fingerprint(digits_teacher, tmp_path, pictures):
    classes, names = pictures
    found = Images(**names).untracked().fingerprint
    named = {**names, "fingerprint": found}
    assert Images(**named).untracked() is None and Images().untracked() is None
    assert len(take(digits_teacher, tmp_path / "a", 10, **named)) == 10
    lines = classes.read_text().splitlines()
    classes.write_text("\n".join(reversed(lines)))
    with pytest.raises(ValueError, match=rf'^fingerprint: "{found}" is that of other files: '):
        take(digits_teacher, tmp_path / "b", 10, **named)
    assert len(take(digits_teacher, tmp_path / "c", 10, **names)) == 10
    classes.write_text("\n".join(lines))
    (tmp_path / "pictures/train/digit 3/1.png").write_bytes(b"one more")
    with pytest.raises(ValueError, match=rf'^fingerprint: "{found}" is that of other files: '):
        take(digits_teacher, tmp_path / "d", 10, **named)


def test_the_stage_tells_which_files_dvc_does_not_follow_and_continues_with_no_others(
    digits_teacher, tmp_path, pictures, capsys, monkeypatch
):
    classes, names = pictures
    monkeypatch.setattr(synthesize, "load_teacher", lambda *_, **__: digits_teacher)
    monkeypatch.setattr(synthesize, "read_similarity", lambda *_: torch.zeros(10, 10))
    identities = []

    def noted(*identity):
        identities.append(identity)
        return Scratch(tmp_path / f"scratch-{len(identities)}")

    monkeypatch.setattr(synthesize, "unfinished", noted)

    def made(**settings):
        document = {
            "device": "cpu",
            "synthesis": {"num_images": 10},
            "data": {"name": "image-folder", "image_size": 8},
            "method": {"name": "real_data", "images": {**names, **settings}},
        }
        p = narrow(check(document)[0], synthesize.SynthesizeParams)
        synthesize.make(p, tmp_path / "none", tmp_path / "none", tmp_path / "set")
        return capsys.readouterr().err

    said = made()
    found = Images(**names).untracked().fingerprint
    assert f"have the fingerprint {found}. DVC does not see when they change, unless you" in said
    assert "you set data.fingerprint and method.images.fingerprint to it" in said
    assert "fingerprint" not in made(fingerprint=found)
    text = classes.read_text()
    classes.write_text(text.title())
    made()
    classes.write_text(text)
    made()
    first, named, other, again = map(str, identities)
    assert first == again and len({first, named, other}) == 3


def test_labelled_data_is_read_only_where_it_is_named():
    def problems(data: str | None) -> list[str]:
        method = {"name": "real_data", "images": {"data": data}}
        return check({"data": {"name": "digits"}, "method": method})[1]

    for wrong in (None, "cifar10"):
        assert [problem.split(":")[0] for problem in problems(wrong)] == ["method.images.data"]
    assert problems("digits") == []


@pytest.mark.parametrize("key", ["root", "classes", "fingerprint"])
def test_the_images_are_those_of_the_data_set_that_is_evaluated_on(key):
    images = {"data": "digits", key: "mine"}
    document = {"data": {"name": "digits"}, "method": {"name": "real_data", "images": images}}
    [problem] = check(document)[1]
    assert problem.startswith(f"method.images.{key}: must be data.{key}: ")
    assert problem.endswith('; got "mine"')
    document["data"][key] = "mine"
    assert check(document)[1] == []
