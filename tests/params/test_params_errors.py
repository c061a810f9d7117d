"""What a user reads when a parameter file is wrong."""

import pytest
import yaml

from dynadfq.data.config import ALLOWED
from dynadfq.methods import METHODS
from dynadfq.params import ParameterError, Params, read
from dynadfq.runtime.config import allowed, leaves
from dynadfq.runtime.errors import shown
from dynadfq.teacher.config import ARCHITECTURES, TeacherConfig

SHAPES, CHANNELS, DEVIATIONS = (
    allowed(TeacherConfig.model_fields[key]) for key in ("input_shape", "mean", "std")
)


def problems(path) -> list[str]:
    with pytest.raises(ParameterError) as caught:
        read(path)
    assert str(caught.value).splitlines()[1:] == [f"  {line}" for line in caught.value.problems]
    return list(caught.value.problems)


def test_every_problem_is_reported_at_once(written):
    path = written(
        """
quantization:
  weight_bits: 16
  target_bits: 5
finetune:
  lr: 1e-3
  epochs: ten
  decay: 0
  calibration_images: 600
synthesis: {num_images: 512, top: 3, momentum: 0.5}
method: {name: zeroQ}
optimizer: adam
selector: {candidates: [3, 4]}
"""
    )
    with pytest.raises(ParameterError) as caught:
        read(path)
    assert str(caught.value) == (
        f"""{path} has 10 problems:
  synthesis.top: unknown key; did you mean similarity.top?
  synthesis.momentum: unknown key; did you mean teacher.momentum?
  method.name: must be one of {", ".join(METHODS)}; got "zeroQ"; did you mean zeroq?
  quantization.weight_bits: must be in 2 … 8; got 16
  finetune.epochs: must be a whole number in 0 … ∞; got "ten"
  finetune.decay: must be in 0 … 1 (not 0); got 0
  finetune.lr: unknown key; did you mean finetune.learning_rate?
  optimizer: unknown key; the file has {", ".join(Params.model_fields)}
  quantization.target_bits: 5 is outside selector.candidates: [3, 4]
  finetune.calibration_images: 600 is more than synthesis.num_images: 512"""
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: -1", "seed: must be in 0 … ∞; got -1"),
        (
            "launch: {processes: 3}",
            "finetune.batch_size: 256 cannot be divided evenly among launch.processes: 3",
        ),
        (
            "method: {name: gdfq}\nlaunch: {processes: 2}",
            "method.gdfq.student.online_generator: true lets a generator learn on beside the student, in one process only, "
            "and launch.processes is 2",
        ),
        ("seed: 1.5", "seed: must be a whole number in 0 … ∞; got 1.5"),
        ("seed: true", "seed: must be a whole number in 0 … ∞; got true"),
        ("seed:", "seed: must be a whole number in 0 … ∞; got null"),
        ("device: gpu", 'device: must be one of auto, cpu, cuda, cuda:N; got "gpu"'),
        ("device: cuda:x", 'device: must be one of auto, cpu, cuda, cuda:N; got "cuda:x"'),
        ("data: {image_size: 4}", "data.image_size: must be in 8 … ∞; got 4"),
        ("data: {image_size: big}", 'data.image_size: must be null or a whole number in 8 … ∞; got "big"'),
        (
            "data: {name: cifar_10}",
            f'data.name: must be {ALLOWED}; got "cifar_10"; did you mean cifar10?',
        ),
        (
            "data: {name: torchvision/SVNH}",
            f'data.name: must be {ALLOWED}; got "torchvision/SVNH"; did you mean torchvision/SVHN?',
        ),
        ("data: {name: 'my_pkg.data:'}", f'data.name: must be {ALLOWED}; got "my_pkg.data:"'),
        ("data: {name: 3}", f"data.name: must be {ALLOWED}; got 3"),
        (
            "data: {name: null}\nteacher: {pretrained: false}",
            "data.name: null names no labelled data to train a teacher with; give teacher.checkpoint a file, or take "
            "published weights with teacher.pretrained: true",
        ),
        ("data: {root: 3}", "data.root: must be text; got 3"),
        ("data: {root: ''}", 'data.root: must be text; got ""'),
        ("finetune: {horizontal_flip: yes}", 'finetune.horizontal_flip: must be true or false; got "yes"'),
        ("finetune: {decay: '0.1'}", 'finetune.decay: must be a number in 0 … 1 (not 0); got "0.1"'),
        ("finetune: {learning_rate: .inf}", "finetune.learning_rate: must be in 0 … ∞ (not 0); got Infinity"),
        ("finetune: {learning_rate: .nan}", "finetune.learning_rate: must be in 0 … ∞ (not 0); got NaN"),
        ("finetune: 3", "finetune: must be a group of keys; got 3"),
        (
            "export: {formats: [pt2, onnx-code]}",
            'export.formats[1]: must be one of onnx-codes, onnx-convinteger, pt2; got "onnx-code"; did you mean onnx-codes?',
        ),
        ("export: {formats: [pt2, pt2]}", "export.formats: must be without repetition; got ['pt2', 'pt2']"),
        ("finetune:", "finetune: must be a group of keys; got null"),
        ("[1, 2]", "the file: must be a group of keys; got [1, 2]"),
        ("quant: {bits: 4}", "quant: unknown key; did you mean quantization?"),
        (
            "method: {images: {similar_classes: 3}}",
            "method.images: unknown key; did you mean method.dynadfq.images?",
        ),
        (
            "teacher: {architecture: resnet20}",
            f'teacher.architecture: must be {ARCHITECTURES}; got "resnet20"',
        ),
        ("teacher: {architecture: 'my_pkg:'}", f'teacher.architecture: must be {ARCHITECTURES}; got "my_pkg:"'),
        ("teacher: {num_classes: 0}", "teacher.num_classes: must be in 1 … ∞; got 0"),
        ("teacher: {input_shape: [3, 32]}", f"teacher.input_shape: must be {SHAPES}; got [3, 32]"),
        ("teacher: {input_shape: [3, 32, 2.5]}", "teacher.input_shape[2]: must be a whole number; got 2.5"),
        ("teacher: {mean: 0.5}", f"teacher.mean: must be {CHANNELS}; got 0.5"),
        ("teacher: {mean: [a]}", 'teacher.mean[0]: must be a number; got "a"'),
        ("teacher: {std: [0.5, 0]}", "teacher.std[1]: must be in 0 … ∞ (not 0); got 0"),
        (
            "teacher: {interpolation: cubic}",
            'teacher.interpolation: must be null or one of nearest, bilinear, bicubic; got "cubic"',
        ),
        (
            "selector: {candidates: [3, 9, '4']}",
            [
                "selector.candidates[1]: must be in 2 … 8; got 9",
                'selector.candidates[2]: must be a whole number in 2 … 8; got "4"',
            ],
        ),
        (
            "selector: {warm_up_images: -1}",
            "selector.warm_up_images: must be in 0 … ∞; got -1",
        ),
        (
            "selector: {budget: multiplier}",
            'selector.budget: must be one of penalty, constraint; got "multiplier"',
        ),
        (
            "selector: {candidates: [4]}",
            "selector.candidates: must be a list of two or more whole numbers in 2 … 8, ascending; got [4]",
        ),
        (
            "selector: {candidates: 4}",
            "selector.candidates: must be a list of two or more whole numbers in 2 … 8, ascending; got 4",
        ),
        (
            "selector: {candidates: [4, 4, 5]}",
            "selector.candidates: must be ascending without repetition; got [4, 4, 5]",
        ),
        (
            "quantization: {target_bits: 6}",
            "quantization.target_bits: 6 is outside selector.candidates: [3, 4, 5]",
        ),
        (
            "synthesis: {num_images: 100}",
            "finetune.calibration_images: 1024 is more than synthesis.num_images: 100",
        ),
        (
            "synthesis: {learning_rate: 1.0e-5}",
            "synthesis.min_learning_rate: 0.0001 is above synthesis.learning_rate: 1e-05",
        ),
        (
            "method: {dynadfq: {images: {similar_classes: 11}}}",
            'method.dynadfq.images.similar_classes: 11 is more than the classes of data.name: "cifar10"',
        ),
        (
            "teacher: {checkpoint: w.pth}",
            'teacher.checkpoint: "w.pth" and teacher.pretrained: true both choose the weights; keep one',
        ),
        (
            "seed: 1\nfinetune:\n  decay: 0.1\n  decay: 0.2",
            "finetune.decay: given twice, on lines 3 and 4",
        ),
        (
            "seed: 1\nseed: -2",
            ["seed: given twice, on lines 1 and 2", "seed: must be in 0 … ∞; got -2"],
        ),
        (
            "seed: [1",
            "not valid YAML, line 1, column 9: expected ',' or ']', but got '<stream end>'",
        ),
        (
            "finetune:\n\tdecay: 1",
            "not valid YAML, line 2, column 1: found character '\\t' that cannot start any token",
        ),
        (
            "finetune: {[1, 2]: 3}",
            "not valid YAML, line 1, column 12: found unhashable key",
        ),
    ],
)  # fmt: skip
def test_a_problem_says_where_what_and_the_way_out(written, text, expected):
    assert problems(written(text)) == ([expected] if isinstance(expected, str) else expected)


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
def test_data_sets_have_names_of_four_forms(written, name):
    assert read(written(yaml.safe_dump({"data": {"name": name}}))).data.name == name


def test_classes_limit_similar_classes_only_where_they_are_known(written):
    for name, count in (("image-folder", 500), (None, 500), ("cifar100", 100)):
        tree = {
            "data": {"name": name},
            "method": {"dynadfq": {"images": {"similar_classes": count}}},
        }
        assert read(written(yaml.safe_dump(tree))).data.name == name


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ParameterError) as caught:
        read(tmp_path / "params.yaml")
    assert str(caught.value) == (
        f"{tmp_path / 'params.yaml'} has 1 problem:\n"
        "  the file does not exist; cp configs/digits.yaml params.yaml makes one"
    )


def test_a_wrong_value_hides_no_constraint_and_causes_none(written):
    path = written("selector: {candidates: [7, 9]}\nfinetune: {calibration_images: 6000}")
    assert problems(path) == [
        "selector.candidates[1]: must be in 2 … 8; got 9",
        "finetune.calibration_images: 6000 is more than synthesis.num_images: 5120",
    ]


@pytest.mark.parametrize("key", [key for key, _ in leaves(Params)])
def test_every_key_refuses_a_mapping_by_name(written, key):
    tree: object = {"no": "value"}
    for name in reversed(key.split(".")):
        tree = {name: tree}
    assert any(
        line.startswith(f"{key}: must be ") and shown({"no": "value"}) in line
        for line in problems(written(yaml.safe_dump(tree)))
    )


@pytest.mark.parametrize("key", [key for key, _ in leaves(Params)])
def test_every_key_is_found_again_with_a_typing_error(written, key):
    group, _, name = key.rpartition(".")
    tree: object = {name[:-1] + name[-1] * 2: 1}
    for part in reversed(group.split(".") if group else []):
        tree = {part: tree}
    assert any(
        line.endswith(f"unknown key; did you mean {key}?")
        for line in problems(written(yaml.safe_dump(tree)))
    )
