"""What a user reads when a parameter file is wrong."""

import pytest
import yaml

from dynadfq.methods import METHODS
from dynadfq.params import ParameterError, Params, read
from dynadfq.params.data_names import ALLOWED
from dynadfq.params.errors import shown
from dynadfq.params.teacher_keys import ARCHITECTURES, CHANNELS, DEVIATIONS, SHAPES
from dynadfq.runtime.config import leaves


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
  activation_bits: [3, 4]
  target_bits: 5
finetune:
  lr: 1e-3
  epochs: ten
  decay: 0
  calibration_images: 600
synthesis: {num_images: 512, top: 3, momentum: 0.5}
method: {name: zeroQ}
optimizer: adam
"""
    )
    with pytest.raises(ParameterError) as caught:
        read(path)
    assert str(caught.value) == (
        f"""{path} has 10 problems:
  synthesis.top: unknown key; did you mean similarity.top?
  synthesis.momentum: unknown key; did you mean teacher.momentum?
  method.name: "zeroQ" is not one of {", ".join(METHODS)}; did you mean zeroq?
  quantization.weight_bits: 16 is outside 2 … 8
  finetune.epochs: "ten" is not a whole number in 1 … ∞
  finetune.decay: 0 is outside 0 … 1 (not 0)
  finetune.lr: unknown key; did you mean finetune.learning_rate?
  optimizer: unknown key; the file has {", ".join(Params.model_fields)}
  quantization.target_bits: 5 is outside quantization.activation_bits: [3, 4]
  finetune.calibration_images: 600 is more than synthesis.num_images: 512"""
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: -1", "seed: -1 is outside 0 … ∞"),
        (
            "launch: {processes: 3}",
            "finetune.batch_size: 256 cannot be divided evenly among launch.processes: 3",
        ),
        (
            "method: {name: gdfq}\nlaunch: {processes: 2}",
            "method.gdfq.student.online_generator: true lets a generator learn on beside the student, in one process only, "
            "and launch.processes is 2",
        ),
        ("seed: 1.5", "seed: 1.5 is not a whole number in 0 … ∞"),
        ("seed: true", "seed: true is not a whole number in 0 … ∞"),
        ("seed:", "seed: null is not a whole number in 0 … ∞"),
        ("device: gpu", 'device: "gpu" is not one of auto, cpu, cuda, cuda:N'),
        ("device: cuda:x", 'device: "cuda:x" is not one of auto, cpu, cuda, cuda:N'),
        ("data: {image_size: 4}", "data.image_size: 4 is outside 8 … ∞"),
        ("data: {image_size: big}", 'data.image_size: "big" is not null or a whole number in 8 … ∞'),
        (
            "data: {name: cifar_10}",
            f'data.name: "cifar_10" is not {ALLOWED}; did you mean cifar10?',
        ),
        (
            "data: {name: torchvision/SVNH}",
            f'data.name: "torchvision/SVNH" is not {ALLOWED}; did you mean torchvision/SVHN?',
        ),
        ("data: {name: 'my_pkg.data:'}", f'data.name: "my_pkg.data:" is not {ALLOWED}'),
        ("data: {name: 3}", f"data.name: 3 is not {ALLOWED}"),
        (
            "data: {name: null}\nteacher: {pretrained: false}",
            "data.name: null names no labelled data to train a teacher with; give teacher.checkpoint a file, or take "
            "published weights with teacher.pretrained: true",
        ),
        ("data: {root: 3}", "data.root: 3 is not text"),
        ("data: {root: ''}", 'data.root: "" is not text'),
        ("finetune: {horizontal_flip: yes}", 'finetune.horizontal_flip: "yes" is not true or false'),
        ("finetune: {decay: '0.1'}", 'finetune.decay: "0.1" is not a number in 0 … 1 (not 0)'),
        ("finetune: {learning_rate: .inf}", "finetune.learning_rate: Infinity is outside 0 … ∞ (not 0)"),
        ("finetune: {learning_rate: .nan}", "finetune.learning_rate: NaN is outside 0 … ∞ (not 0)"),
        ("finetune: 3", "finetune: 3 is not a group of keys"),
        (
            "export: {formats: [pt2, onnx-code]}",
            'export.formats[1]: "onnx-code" is not one of onnx-codes, onnx-convinteger, pt2; did you mean onnx-codes?',
        ),
        ("export: {formats: [pt2, pt2]}", 'export.formats: ["pt2", "pt2"] is not without repetition'),
        ("finetune:", "finetune: null is not a group of keys"),
        ("[1, 2]", "the file: [1, 2] is not a group of keys"),
        ("quant: {bits: 4}", "quant: unknown key; did you mean quantization?"),
        (
            "method: {images: {similar_classes: 3}}",
            "method.images: unknown key; did you mean method.dynadfq.images?",
        ),
        (
            "teacher: {architecture: resnet20}",
            f'teacher.architecture: "resnet20" is not {ARCHITECTURES}',
        ),
        ("teacher: {architecture: 'my_pkg:'}", f'teacher.architecture: "my_pkg:" is not {ARCHITECTURES}'),
        ("teacher: {num_classes: 0}", "teacher.num_classes: 0 is outside 1 … ∞"),
        ("teacher: {input_shape: [3, 32]}", f"teacher.input_shape: [3, 32] is not {SHAPES}"),
        ("teacher: {input_shape: [3, 32, 2.5]}", f"teacher.input_shape: [3, 32, 2.5] is not {SHAPES}"),
        ("teacher: {mean: 0.5}", f"teacher.mean: 0.5 is not {CHANNELS}"),
        ("teacher: {mean: [a]}", f'teacher.mean: ["a"] is not {CHANNELS}'),
        ("teacher: {std: [0.5, 0]}", f"teacher.std: [0.5, 0] is not {DEVIATIONS}"),
        (
            "teacher: {interpolation: cubic}",
            'teacher.interpolation: "cubic" is not null or one of nearest, bilinear, bicubic',
        ),
        (
            "quantization: {activation_bits: [3, 9, '4']}",
            [
                "quantization.activation_bits[1]: 9 is outside 2 … 8",
                'quantization.activation_bits[2]: "4" is not a whole number in 2 … 8',
            ],
        ),
        (
            "quantization: {selector: {warm_up_images: -1}}",
            "quantization.selector.warm_up_images: -1 is outside 0 … ∞",
        ),
        (
            "quantization: {selector: {budget: multiplier}}",
            'quantization.selector.budget: "multiplier" is not one of penalty, constraint',
        ),
        (
            "quantization: {activation_bits: [4]}",
            "quantization.activation_bits: [4] is not a list of two or more whole numbers in 2 … 8, ascending",
        ),
        (
            "quantization: {activation_bits: 4}",
            "quantization.activation_bits: 4 is not a list of two or more whole numbers in 2 … 8, ascending",
        ),
        (
            "quantization: {activation_bits: [4, 4, 5]}",
            "quantization.activation_bits: [4, 4, 5] is not ascending without repetition",
        ),
        (
            "quantization: {target_bits: 6}",
            "quantization.target_bits: 6 is outside quantization.activation_bits: [3, 4, 5]",
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
            ["seed: given twice, on lines 1 and 2", "seed: -2 is outside 0 … ∞"],
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
    path = written("quantization: {activation_bits: [7, 9]}\nfinetune: {calibration_images: 6000}")
    assert problems(path) == [
        "quantization.activation_bits[1]: 9 is outside 2 … 8",
        "finetune.calibration_images: 6000 is more than synthesis.num_images: 5120",
    ]


@pytest.mark.parametrize("key", [key for key, _ in leaves(Params)])
def test_every_key_refuses_a_mapping_by_name(written, key):
    tree: object = {"no": "value"}
    for name in reversed(key.split(".")):
        tree = {name: tree}
    assert any(
        line.startswith(f"{key}: {shown({'no': 'value'})} is not ")
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
