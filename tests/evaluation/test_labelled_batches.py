"""Loaders of all kinds: taken in one form, or refused in a sentence that names the batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dynadfq.api.training import finetune
from dynadfq.evaluation.evaluate import evaluate
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

LABELS = torch.arange(8) % 6


@pytest.fixture
def student(make_student: Callable[..., Student]) -> Student:
    return make_student()


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None],
        LABELS.to(torch.uint8),
        LABELS.numpy(),
        LABELS.numpy()[:, None].astype(np.int32),
        *(LABELS.numpy().astype(kind) for kind in (np.uint16, np.uint32, np.uint64)),
        LABELS.tolist(),
    ],
)
def test_every_form_of_labels_gives_the_same_numbers(
    student: Student, images: Tensor, labels: Any
) -> None:
    expected = evaluate(student, [(images[:8], LABELS)])
    found = evaluate(student, [[images[:8].numpy().astype(np.float64), labels]])
    assert found.top1 == expected.top1
    assert found.per_image.equals(expected.per_image)


WRONG = {
    "one-hot": (lambda x: [(x, one_hot(LABELS))], r"batch 0: labels: of shape \(8, 6\) for 8 ima"),
    "too few": (lambda x: [(x, LABELS[:4])], r"labels: of shape \(4,\) for 8 images; give one"),
    "float": (lambda x: [(x, LABELS.float())], "labels: float32; give class numbers as integers"),
    "words": (lambda x: [(x, ["cat"] * 8)], "labels: give class numbers, not a list of something"),
    "1 … 6": (lambda x: [(x, LABELS + 1)], "labels: 6 is outside the network's 6 classes, 0 … 5"),
    "negative": (lambda x: [(x, LABELS - 1)], "labels: -1 is outside the network's 6 classes"),
    "names": (
        lambda x: [(x, LABELS, ["a"] * 8)],
        r"give pairs \(images, labels\), not a tuple of 3",
    ),
    "images alone": (lambda x: [x], r"give pairs \(images, labels\), not a Tensor"),
    "dict": (lambda x: [{"x": x}], r"give pairs \(images, labels\), not a dict"),
    "second": (lambda x: [(x, LABELS), (x[:, :1], LABELS)], r"batch 1: images: of shape \(8, 1, 8"),
    "one image": (lambda x: [(x[0], LABELS[:1])], r"images: of shape \(3, 8, 8\), but the network"),
    "pixels": (
        lambda x: [(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), LABELS)],
        r"images: uint8, .* normalize them by the model's preprocessing.normalize",
    ),
    "bytes": (lambda x: [(x.abs() * 100, LABELS)], "are not normalized; divide pixels by 255"),
    "nan": (lambda x: [(x / 0, LABELS)], "images: they hold NaN or infinity"),
    "list": (lambda x: [(x.tolist(), LABELS)], "images: of type list, but the network reads"),
    "no images": (lambda x: [(x[:0], LABELS[:0])], "images: there are none in the batch"),
    "some": (lambda x: [(x, LABELS), (x, None)], "batch 1: labels: some batches have labels and"),
    "no loader": (lambda x: 8, r"batches: must be pairs .*; got an object of type int"),
    "empty": (lambda x: [], "batches: there are none; a generator can be read only once"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_labelled_batch_is_named(student: Student, images: Tensor, case: str) -> None:
    make, message = WRONG[case]
    with pytest.raises(ValueError, match=f"^batches: .*{message}|^{message}") as error:
        evaluate(student, make(images[:8]))
    assert "\n" not in str(error.value)


def test_images_that_were_not_normalized_are_warned_of(student: Student, images: Tensor) -> None:
    pixels = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="values of the first images are in 0 … 1; they have to"):
        evaluate(student, [(pixels, LABELS)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(student, [(student.preprocessing.normalize(pixels * 255), LABELS)])


@pytest.mark.parametrize(
    ("name", "value", "differences"),
    [
        ("num_classes", 7, "it has 7 classes and the model 6"),
        ("input_shape", (3, 4, 8), "its input_shape is [3, 4, 8] and the model's [3, 8, 8]"),
        ("mean", (0.1, 0.4, 0.6), "its mean is [0.1, 0.4, 0.6] and the model's [0.5, 0.4, 0.6]"),
        ("std", (0.2, 0.3, 0.5), "its std is [0.2, 0.3, 0.5] and the model's [0.2, 0.3, 0.25]"),
        ("resize", 9, "its resize is 9 and the model's null"),
        ("interpolation", "bicubic", 'its interpolation is "bicubic" and the model\'s "bilinear"'),
        ("class_names", tuple("acbdef"), 'its class 1 is "c" and the model\'s "b"'),
    ],
)
def test_a_teacher_of_other_inputs_or_classes_is_refused(
    student: Student, teacher: Teacher, images: Tensor, name: str, value: Any, differences: str
) -> None:
    student.description["class_names"] = list("abcdef")
    evaluate(student, [(images[:8], LABELS)], teacher)  # its classes have no names
    teacher.class_names = tuple("abcdef")
    setattr(teacher, name, value)
    with pytest.raises(InvalidArgument) as refused:
        evaluate(student, [(images[:8], LABELS)], teacher)
    assert refused.value.argument == "teacher"
    assert refused.value.problem == (
        f"{differences}; give the float network that the model was made from"
    )


@pytest.mark.parametrize("training", [False, True])
def test_a_student_runs_on_its_own_images_only(
    student: Student, images: Tensor, training: bool
) -> None:
    student.train(training)
    with pytest.raises(ValueError, match=r"images: of shape \(8, 3, 4, 8\), but the network reads"):
        student(images[:8, :, :4])
    with pytest.raises(ValueError, match="images: float64, but the network reads float32"):
        student.run(images[:8].double())


def test_images_of_another_network_are_refused_before_any_step(
    student: Student, teacher: Teacher, images: Tensor, synthetic: SyntheticSet
) -> None:
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    wrong = [
        ([(images, None)], "images: must be a set as dynadfq.synthesize returns it; got a list"),
        (_like(synthetic, images=images[:4, :, :4]), r"images: of shape \(4, 3, 4, 8\), but the"),
        (_like(synthetic, soft_labels=torch.ones(4, 5)), "made for 5 classes, and the network has"),
        (_like(synthetic, count=0), "images: the set is empty"),
    ]
    for some, message in wrong:
        with pytest.raises(ValueError, match=message):
            finetune(student, teacher, some)
        with pytest.raises(ValueError, match=message):
            student.set_budget(5.0, some)
    after = student.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def _like(synthetic: SyntheticSet, count: int = 1, **fields: Tensor) -> Any:
    """A set of ``count`` batches in which some fields differ."""

    class Images:
        def batches(self, size: int, limit: int | None = None) -> Any:
            return iter([next(synthetic.batches(4))._replace(**fields)] * count)

    return Images()


def test_other_objects_than_models_are_refused(student: Student, images: Tensor) -> None:
    module: Any = torch.nn.Linear(3, 2)
    with pytest.raises(InvalidArgument, match="model: must be a student or a teacher; got Linear"):
        evaluate(module, [(images[:8], LABELS)])
    with pytest.raises(InvalidArgument, match="teacher: must be a teacher; got Linear"):
        evaluate(student, [(images[:8], LABELS)], module)
