"""What a user reads when a parameter file is wrong."""

import math

import pytest
import yaml

from dynadfq.data.config import ALLOWED
from dynadfq.methods import METHODS
from dynadfq.params import ParameterError, Params, read
from dynadfq.params.errors import MOVED
from dynadfq.params.loading import check
from dynadfq.params.sections import PRESETS, params_of
from dynadfq.params.yaml12 import Loader
from dynadfq.runtime.config import allowed, leaves
from dynadfq.runtime.errors import shown
from dynadfq.teacher.config import ARCHITECTURES, TeacherConfig

SHAPES, CHANNELS, DEVIATIONS = (
    allowed(TeacherConfig.model_fields[key]) for key in ("input_shape", "mean", "std")
)


def problems(text: str) -> list[str]:
    """What is wrong with a file's values, whatever groups it lacks."""
    return check(yaml.load(text, Loader))[1]


def test_every_problem_is_reported_at_once(written):
    path = written(
        """
quantization:
  weight_bits: 16
  target_bits: 5
selector: {candidates: [3, 4]}
finetune:
  lr: 1e-3
  epochs: ten
  decay: 0
  calibration_images: 600
synthesis: {num_images: 512, top: 3, momentum: 0.5}
method: {name: zeroQ, preset: default, images: {x: 1}, student: {}}
optimizer: adam
"""
    )
    with pytest.raises(ParameterError) as caught:
        read(path)
    assert caught.value.problems == (
        "synthesis.top: unknown key; did you mean similarity.top?",
        "synthesis.momentum: unknown key; did you mean finetune.momentum?",
        f'method.name: must be one of {", ".join(METHODS)}; got "zeroQ"; did you mean zeroq?',
        "quantization.weight_bits: must be in 2 … 8; got 16",
        'finetune.epochs: must be a whole number in 0 … 10000000; got "ten"',
        "finetune.decay: must be in 0 … 1 (not 0); got 0",
        "finetune.lr: unknown key; did you mean finetune.learning_rate?",
        f"optimizer: unknown key; the file has {', '.join(Params.model_fields)}",
        "quantization.target_bits: must be within selector.candidates: [3, 4]; got 5",
        "finetune.calibration_images: must be at most synthesis.num_images: 512; got 600",
        "seed: missing, and DVC needs it; write `seed: 0`",
        'device: missing, and DVC needs it; write `device: "auto"`',
        'precision: missing, and DVC needs it; write `precision: "float32"`',
        *(
            f"{group}: missing, and DVC needs it; write `{group}: {{}}`"
            for group in ("data", "teacher", "similarity", "evaluation", "export", "report")
        ),
    )
    listed = [f"  {line}" for line in caught.value.problems]
    assert str(caught.value).splitlines() == [f"{path} has {len(listed)} problems:", *listed]


@pytest.mark.parametrize("old", MOVED)
def test_a_key_of_an_earlier_version_is_told_its_place(old):
    [problem] = check(tree_of(old, 1, "dynadfq"))[1]
    assert problem == f"{old}: unknown key; it is now {MOVED[old]}"


SEEDS = "in 0 … 9223372036854775807"
WIDTHS = "must be a list of two or more whole numbers in 2 … 8, ascending"


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("seed", -1, f"must be {SEEDS}"),
        ("seed", 1.5, f"must be a whole number {SEEDS}"),
        ("seed", True, f"must be a whole number {SEEDS}"),
        ("seed", None, f"must be a whole number {SEEDS}"),
        ("device", "gpu", "must be one of auto, cpu, cuda, cuda:N"),
        ("device", "cuda:x", "must be one of auto, cpu, cuda, cuda:N"),
        ("data.image_size", 4, "must be in 8 … 8192"),
        ("data.image_size", "big", "must be null or a whole number in 8 … 8192"),
        ("data.name", "my_pkg.data:", f"must be {ALLOWED}"),
        ("data.name", 3, f"must be {ALLOWED}"),
        ("data.root", 3, "must be text"),
        ("data.root", "", "must be text"),
        ("finetune.horizontal_flip", "maybe", "must be true or false"),
        ("finetune.decay", "0.1", "must be a number in 0 … 1 (not 0)"),
        ("finetune.learning_rate", math.inf, "must be in 0 … 100 (not 0)"),
        ("finetune.learning_rate", math.nan, "must be in 0 … 100 (not 0)"),
        ("finetune", 3, "must be a group of keys"),
        ("finetune", None, "must be a group of keys"),
        ("teacher.architecture", "resnet20", f"must be {ARCHITECTURES}"),
        ("teacher.architecture", "my_pkg:", f"must be {ARCHITECTURES}"),
        ("teacher.num_classes", 0, "must be in 1 … 100000"),
        ("teacher.input_shape", [3, 32], f"must be {SHAPES}"),
        ("teacher.mean", 0.5, f"must be {CHANNELS}"),
        ("teacher.interpolation", "cubic", "must be null or one of nearest, bilinear, bicubic"),
        ("selector.warm_up_images", -1, "must be in 0 … 10000000"),
        ("selector.budget", "multiplier", "must be one of penalty, constraint"),
        ("selector.candidates", [4], WIDTHS),
        ("selector.candidates", 4, WIDTHS),
        ("selector.candidates", [4, 4, 5], "must be ascending without repetition"),
        # Between keys.
        ("quantization.target_bits", 6, "must be within selector.candidates: [3, 4, 5]"),
        (
            "method.images.similar_classes",
            11,
            'must be at most the number of classes of data.name: "cifar10"',
        ),
        (
            "teacher.checkpoint",
            "w.pth",
            "must be null with teacher.pretrained: true, since both choose the weights",
        ),
    ],
)
def test_a_wrong_value_is_shown_with_what_it_may_be(key, value, wanted):
    assert check(tree_of(key, value, "dynadfq"))[1] == [f"{key}: {wanted}; got {shown(value)}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1, 2]", "the file: must be a group of keys; got [1, 2]"),
        ("quant: {bits: 4}", "quant: unknown key; did you mean quantization?"),
        (
            "method: {images: {similar_clases: 3}}",
            "method.images.similar_clases: unknown key; "
            "did you mean method.images.similar_classes?",
        ),
        (
            "method: {preset: imagnet}",
            f"method.preset: must be one of {', '.join(PRESETS)}; "
            'got "imagnet"; did you mean imagenet?',
        ),
        (
            "data: {name: cifar_10}",
            f'data.name: must be {ALLOWED}; got "cifar_10"; did you mean cifar10?',
        ),
        (
            "data: {name: torchvision/SVNH}",
            f'data.name: must be {ALLOWED}; got "torchvision/SVNH"; did you mean torchvision/SVHN?',
        ),
        (
            "export: {formats: [pt2, onnx-code]}",
            "export.formats[1]: must be one of qdq, onnx-codes, pt2; "
            'got "onnx-code"; did you mean onnx-codes?',
        ),
        (
            "export: {formats: [pt2, pt2]}",
            'export.formats: must be without repetition; got ["pt2", "pt2"]',
        ),
        (
            "teacher: {input_shape: [3, 32, 2.5]}",
            "teacher.input_shape[2]: must be a whole number in 1 … 8192; got 2.5",
        ),
        ("teacher: {mean: [a]}", 'teacher.mean[0]: must be a number in 0 … 1; got "a"'),
        ("teacher: {std: [58.4]}", "teacher.std[0]: must be in 0.001 … 1; got 58.4"),
        ("teacher: {std: [0.5, 0]}", "teacher.std[1]: must be in 0.001 … 1; got 0"),
        (
            "selector: {candidates: [3, 4, '5']}",
            'selector.candidates[2]: must be a whole number in 2 … 8; got "5"',
        ),
        (
            "launch: {processes: 3}",
            "finetune.batch_size: must be a multiple of launch.processes: 3; got 256",
        ),
        (
            "method: {name: gdfq}\nlaunch: {processes: 2}",
            "method.student.online_generator: must be false, since the generator is trained in one "
            "process, and launch.processes is 2; got true",
        ),
        (
            "data: {name: null}\nteacher: {pretrained: false}",
            "data.name: must name labelled data to train a teacher with; or set teacher.checkpoint "
            "to a file, or teacher.pretrained to true for published weights; got null",
        ),
        (
            "synthesis: {num_images: 100}",
            "finetune.calibration_images: must be at most synthesis.num_images: 100; got 1024",
        ),
        (
            "synthesis: {num_images: 64}\n"
            "finetune: {calibration_images: 57, early_stopping: {images: 8}}",
            "finetune.early_stopping.images: must leave the 57 images of "
            "finetune.calibration_images, of synthesis.num_images: 64; got 8",
        ),
        (
            "finetune: {early_stopping: {patience: 0}}",
            "finetune.early_stopping.patience: must be in 1 … 10000000; got 0",
        ),
        (
            "synthesis: {learning_rate: 1.0e-5}",
            "synthesis.min_learning_rate: must be at most synthesis.learning_rate: 1e-05; "
            "got 0.0001",
        ),
        (
            "method: {name: real_data}",
            "method.images.data: must name the labelled data set that this method reads, and be "
            'data.name: "cifar10"; got null',
        ),
    ],
)
def test_a_problem_says_where_what_and_the_way_out(text, problem):
    assert problems(text) == [problem]


def test_the_integer_scheme_has_its_target_width_whatever_the_candidates():
    assert problems("quantization: {scheme: integer, target_bits: 8}") == []
    assert problems("quantization: {scheme: paper, target_bits: 8}") == [
        "quantization.target_bits: must be within selector.candidates: [3, 4, 5]; got 8"
    ]


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("seed: 1\nreport:\n  a: 1\n  a: 2", "line 4, column 3", "`a` is given twice"),
        ("seed: 1\nseed: -2", "line 2, column 1", "`seed` is given twice"),
        ("seed: [1", "line 1, column 9", "expected ',' or ']', but got '<stream end>'"),
        ("a:\n\tb: 1", "line 2, column 1", "found character '\\t' that cannot start any token"),
        ("finetune: {[1, 2]: 3}", "line 1, column 12", "found unhashable key"),
    ],
)
def test_what_is_not_yaml_is_shown_its_place(written, text, place, problem):
    with pytest.raises(ParameterError) as caught:
        read(written(text))
    assert caught.value.problems == (f"not valid YAML, {place}: {problem}",)


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "image-folder",
        "torchvision/SVHN",
        "torchvision/Flowers102",
        "my_pkg.data:build",
        "a:b.c",
        None,
    ],
)
def test_data_sets_have_names_of_four_forms(name):
    params, wrong = check({"data": {"name": name}})
    assert params.data.name == name and not wrong


def test_classes_limit_similar_classes_only_where_they_are_known():
    for name, count in (("image-folder", 500), (None, 500), ("cifar100", 100)):
        tree = {"data": {"name": name}, "method": {"images": {"similar_classes": count}}}
        assert not check(tree)[1]


def test_a_missing_file_says_how_to_make_one(tmp_path):
    def advice(name):
        with pytest.raises(ParameterError) as caught:
            read(tmp_path / name)
        start = f"{tmp_path / name} has 1 problem:\n  the file does not exist; "
        assert str(caught.value).startswith(start)
        return str(caught.value).removeprefix(start)

    assert advice("params.yaml") == "dynadfq init DIR makes a project that has one"
    (tmp_path / "configs").mkdir()
    assert advice("params.yaml") == "python -m dynadfq.params use digits makes one"
    assert advice("configs/other.yaml") == "write the path of one that does"


def test_a_wrong_value_hides_no_constraint_and_causes_none():
    text = "selector: {candidates: [7, 9]}\nfinetune: {calibration_images: 6000}"
    assert problems(text) == [
        "selector.candidates[1]: must be in 2 … 8; got 9",
        "finetune.calibration_images: must be at most synthesis.num_images: 5120; got 6000",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_every_key_refuses_a_mapping_and_is_found_with_a_typing_error(method):
    for key in [key for key, _ in leaves(params_of(method))]:
        if key != "method.name":
            assert any(
                line.startswith(f"{key}: must be ") and shown({"no": "value"}) in line
                for line in check(tree_of(key, {"no": "value"}, method))[1]
            )
        misspelled = key + key[-1]
        lines = check(tree_of(misspelled, 1, method))[1]
        assert any(line.endswith(f"unknown key; did you mean {key}?") for line in lines), key


def tree_of(key: str, value: object, method: str) -> dict[str, object]:
    """A file with one value, for a method."""
    *groups, name = key.split(".")
    tree: dict[str, object] = {"method": {"name": method}}
    group = tree
    for part in groups:
        group = group.setdefault(part, {})
    group[name] = value
    return tree
