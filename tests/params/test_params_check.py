"""The check of a whole experiment: without torch, bounded, and with a sentence for what is odd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.robustness.mutations import bounds, mutations, usable
from benchmarks.robustness.parameters import RUNS, STOPS, prepare, said, verdict
from dynadfq.methods import METHODS
from dynadfq.params import ParameterError, examine, memory, read
from dynadfq.params.loading import check
from dynadfq.params.oddities import oddities
from dynadfq.params.sections import params_of
from dynadfq.params.yaml12 import MAX_DEPTH, read_yaml
from dynadfq.runtime.config import leaves

ROOT = Path(__file__).parents[2]
COUNT = 300
RUN = 4  # of the mutations that are accepted


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("params.__main__", ["check"]), ("cli.app", ["check", "params.yaml"])],
)
def test_a_check_does_not_load_torch(module: str, arguments: list[str]) -> None:
    # The command line leaves by SystemExit: what is loaded is printed from there.
    code = (
        "import atexit, sys\n"
        "heavy = ('torch', 'numpy', 'pandas', 'torchvision')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules]))\n"
        f"from dynadfq.{module} import main\n"
        f"main({arguments})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("method", METHODS)
def test_every_number_has_a_lower_and_an_upper_bound(method: str) -> None:
    for key, field in leaves(params_of(method)):
        if usable(key) and field.annotation in (int, float, int | None, float | None):
            assert len(bounds(field)) == 2, key


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: {image_size: 16}\nteacher: {input_shape: [3, 32, 32]}", "data.image_size: must be"),
        ("teacher: {num_classes: 7}", "teacher.num_classes: must be the number of classes of data"),
        (
            "{data: {name: null}, teacher: {num_classes: 3, class_names: [cat, dog]}}",
            'teacher.class_names: must have as many names as teacher.num_classes: 3; got ["cat", ',
        ),
        (
            "teacher: {class_names: [cat, dog]}",
            'teacher.class_names: must have as many names as data.name: "cifar10" has classes; got',
        ),
        (
            "data: {name: null}\nteacher: {class_names: [cat, dog, cat]}",
            'teacher.class_names: must name each class differently; got "cat" more than once',
        ),
        (
            "data: {name: null}\nteacher: {class_names: [cat, 3]}",
            "teacher.class_names[1]: must be text; got 3",
        ),
        ("teacher: {mean: [0.5, 0.5], std: [0.5]}", "teacher.std: must have as many values as"),
        ("teacher: {mean: [0.5], input_shape: [3, 8, 8]}", "teacher.mean: must have one value for"),
        ("teacher: {std: [0.5], input_shape: [3, 8, 8]}", "teacher.std: must have one value for"),
        (
            "data: {name: null}\nteacher: {num_classes: 2}\nmethod: {images: {similar_classes: 3}}",
            "method.images.similar_classes: must be at most teacher.num_classes: 2; got 3",
        ),
        (
            "method: {name: intraq, images: {margin_low: 0.9}}",
            "method.images.margin_low: must be at most method.images.margin_high: 0.8; got 0.9",
        ),
        (
            "method: {name: adadfq, student: {lower_margin: 0.9}}",
            "method.student.lower_margin: must be at most method.student.upper_margin: 0.8; got",
        ),
        ("finetune: {momentum: 1.0}", "finetune.momentum: must be in 0 … 1 (not 1); got 1.0"),
        ("finetune: {crop_scale: 1.0e-9}", "finetune.crop_scale: must be in 0.01 … 1; got 1e-09"),
        (
            "quantization: {scheme: integer, target_bits: 32}",
            "quantization.target_bits: must be in 2 … 8 with quantization.scheme: integer, whose",
        ),
        (
            "quantization: {target_bits: 16}",
            "quantization.target_bits: must be a whole number in 2 … 8, or 32 for activations that "
            "stay float32; got 16",
        ),
        ("device: cuda:99999999999999999999", "device: must be one of auto, cpu, cuda, cuda:N"),
        ("method: {name: gdfq, preset: small, images: [1]}", "method.images: must be a group of"),
    ],
)
def test_keys_that_disagree_are_named(text: str, problem: str) -> None:
    [found] = check(yaml.safe_load(text))[1]
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "selector: {candidates: [3, 5]}",
            "quantization.target_bits: 4 is not one of selector.candidates: [3, 5]; the fixed "
            "student has this width, and images of the dynamic one start at the candidate below",
        ),
        (
            "finetune: {epochs: 5, decay_every: 5}",
            "finetune.decay_every: 5 with finetune.epochs: 5 means that the learning rates never "
            "fall",
        ),
        (
            "data: {fingerprint: 64f11b}",
            'data.fingerprint: "64f11b" has no effect with data.name: "cifar10" and data.classes: ',
        ),
        ("finetune: {epochs: 0}", "finetune.epochs: 0 leaves the students as they are after"),
        ("finetune: {steps: 0}", "finetune.steps: 0 leaves the students as they are after"),
        (
            "method: {name: adaround}\nfinetune: {early_stopping: {images: 64}}",
            "finetune.early_stopping.images: 64 has no effect with method.name: adaround, which "
            "trains no student",
        ),
        (
            "method: {name: squant}\nfinetune: {attention_transfer: 2.5}",
            "finetune.attention_transfer: 2.5 has no effect with method.name: squant, which trains "
            "no student",
        ),
        ("synthesis: {iterations: 0}", "synthesis.iterations: 0 leaves the images as they start"),
        (
            "data: {name: digits}\nteacher: {pretrained: false, crop_padding: 0}\n"
            "selector: {pool: 64}",
            "selector.pool: 64 is more than the 8 pixels of an image's side",
        ),
        (
            "data: {name: digits}\nteacher: {pretrained: false, crop_padding: 8}",
            "teacher.crop_padding: 8 is no less than the 8 pixels of an image's side",
        ),
        (
            "method: {name: qimera, images: {superposed_classes: 100}}",
            "method.images.superposed_classes: 100 is more than the classes of data.name: ",
        ),
        ("method: {student: {mixup_start: 1.0}}", "method.student.mixup_start: 1.0 means that no"),
        (
            "selector: {warm_up_images: 9999}",
            "selector.warm_up_images: 9999 is more than synthesis",
        ),
        (
            "selector: {any_width: true}",
            "selector.any_width: true with selector.warm_up_images: 0 leaves the selector unt",
        ),
        (
            "quantization: {ranges: {quantile: 0.9}}",
            'quantization.ranges.quantile: 0.9 has no effect with quantization.ranges.observer: "',
        ),
        (
            "quantization: {target_bits: 32, placement: layer_input}",
            'quantization.placement: "layer_input" has no effect with quantization.target_bits: 32',
        ),
        (
            "quantization: {target_bits: 32, ranges: {average: ema}}",
            'quantization.ranges.average: "ema" has no effect with quantization.target_bits: 32',
        ),
        (
            "quantization: {scheme: integer}",
            "synthesis.clip: false leaves pixels outside of the range of image files, which the",
        ),
        (
            "synthesis: {decay: 0.5, schedule: linear}",
            'synthesis.decay: 0.5 has no effect with synthesis.schedule: "linear"',
        ),
        (
            "finetune: {clipped_gradient: true}",
            "finetune.clipped_gradient: true has no effect with quantization.ranges.learned: true",
        ),
        (
            "finetune: {early_stopping: {patience: 3}}",
            "finetune.early_stopping.patience: 3 has no effect with finetune.early_stopping.images",
        ),
        (
            "quantization: {weight_bits: 3, allocation: {widths: [4, 8]}}",
            "quantization.allocation.widths: [4, 8] has no effect with quantization.allocation.rul",
        ),
        (
            "quantization: {allocation: {keep_size: true}}",
            "quantization.allocation.keep_size: true has no effect with quantization.allocation.ru",
        ),
        (
            "quantization: {allocation: {rule: sensitivity, images: 9999}}",
            "quantization.allocation.images: 9999 is more than synthesis.num_images: ",
        ),
        (
            "selector: {any_width: true, warm_up_images: 64, budget: constraint}",
            'selector.budget: "constraint" has no effect with selector.any_width: true',
        ),
        (
            "synthesis: {patience: 9, schedule: linear}",
            'synthesis.patience: 9 has no effect with synthesis.schedule: "linear"',
        ),
        (
            "synthesis: {stop: true, schedule: linear}",
            'synthesis.stop: true has no effect with synthesis.schedule: "linear"',
        ),
    ],
)
def test_what_is_odd_is_said_and_not_refused(text: str, note: str) -> None:
    params, problems = check(yaml.safe_load(text))
    assert problems == []
    [found] = oddities(params)
    assert found.startswith(note)


@pytest.mark.parametrize(
    ("text", "falls"),
    [
        ("finetune: {epochs: 5, decay_every: 5, steps_per_epoch: 10, steps: 51}", True),
        ("finetune: {epochs: 9, decay_every: 5, steps_per_epoch: 10, steps: 50}", False),
        (
            "{synthesis: {num_images: 100}, finetune: {decay_every: 5, batch_size: 64, steps: 11}}",
            True,
        ),
        (
            "{synthesis: {num_images: 100}, finetune: {decay_every: 5, batch_size: 64, steps: 10}}",
            False,
        ),
    ],
)
def test_rates_fall_if_the_steps_reach_the_first_decay(text: str, falls: bool) -> None:
    document = yaml.safe_load(text)
    document["finetune"]["calibration_images"] = 64
    document["finetune"].setdefault("steps_per_epoch", None)
    params, problems = check(document)
    assert problems == []
    assert [line.endswith("never fall") for line in oddities(params)] == [True] * (not falls)


def test_float_activations_have_no_use_for_settings_of_widths_and_ranges() -> None:
    document: dict[str, Any] = {
        "quantization": {"target_bits": 32, "ranges": {"observer": "max", "quantile": 0.9}},
        "selector": {"candidates": [2, 8], "any_width": True, "hidden": 8, "bit_weight": 1.0},
        "finetune": {"calibration_images": 64, "range_learning_rate": 0.1},
        "evaluation": {"sensitivity_bits": [], "budgets": 3},
    }
    document["finetune"]["clipped_gradient"] = True
    lines = list(oddities(check(document)[0]))
    assert all(line.endswith("has no effect with quantization.target_bits: 32") for line in lines)
    changed = {
        "quantization.ranges": document["quantization"]["ranges"],
        **{name: document[name] for name in ("selector", "finetune", "evaluation")},
    }
    keys = [f"{group}.{name}" for group, values in changed.items() for name in values]
    assert sorted(line.split(":")[0] for line in lines) == sorted(keys)
    unchanged = {"quantization": {"target_bits": 32, "weight_bits": 3}}
    assert list(oddities(check(unchanged)[0])) == []


def test_scheme_integer_has_no_use_for_settings_of_several_widths() -> None:
    document: dict[str, Any] = {
        "quantization": {
            "scheme": "integer",
            "placement": "layer_input",
            "ranges": {"per_width": True},
        },
        "selector": {"any_width": True, "pool": 4, "learning_rate": 0.5},
        "synthesis": {"clip": True},
    }
    lines = list(oddities(check(document)[0]))
    assert all(line.endswith('has no effect with quantization.scheme: "integer"') for line in lines)
    assert sorted(line.split(":")[0] for line in lines) == [
        "quantization.placement",
        "quantization.ranges.per_width",
        *(f"selector.{name}" for name in ("any_width", "learning_rate", "pool")),
    ]


@pytest.mark.parametrize("unused", [{"scheme": "integer"}, {"target_bits": 32}])
def test_nothing_is_said_of_images_widths_where_images_choose_none(unused: dict[str, Any]) -> None:
    document = {
        "data": {"name": "digits"},
        "teacher": {"pretrained": False},
        "quantization": {"weight_bits": 8, "target_bits": 8} | unused,
        "synthesis": {"clip": True},
    }
    assert list(oddities(check(document)[0])) == []
    document["selector"] = {"pool": 64, "candidates": [2, 3]}
    lines = list(oddities(check(document)[0]))
    assert sorted(line.split(":")[0] for line in lines) == ["selector.candidates", "selector.pool"]
    assert all("has no effect with quantization." in line for line in lines)


def test_settings_of_another_rounding_or_of_fixed_ranges_have_no_effect() -> None:
    document: dict[str, Any] = {
        "quantization": {"ranges": {"learned": False}, "reconstruction": {"iterations": 7}},
        "finetune": {"range_learning_rate": 0.5},
    }
    lines = [line.split(":")[0] for line in oddities(check(document)[0])]
    assert sorted(lines) == [
        "finetune.range_learning_rate",
        "quantization.reconstruction.iterations",
    ]


def test_a_generator_has_no_use_for_the_settings_of_pixels() -> None:
    changes = {"basis": "cosines", "beta1": 0.5, "beta2": 0.9, "clip": True, "stop": True}
    changes |= {"learning_rate": 0.1, "iterations": 7}
    for scheme in ("dynamic", "integer"):
        document = {"method": {"name": "gdfq"}, "quantization": {"scheme": scheme}}
        assert list(oddities(check(document)[0])) == []
        lines = list(oddities(check({**document, "synthesis": changes})[0]))
        noted = {line.split(":")[0].removeprefix("synthesis.") for line in lines}
        assert noted == set(changes) - {"iterations"}


@pytest.mark.parametrize("length", ["epochs", "steps"])
def test_settings_of_training_without_steps_are_said(length: str) -> None:
    settings = {"early_stopping": {"images": 64}, "attention_transfer": 2.5}
    _, *lines = oddities(check({"finetune": {length: 0, **settings}})[0])
    assert lines == [
        f"finetune.{key} has no effect with finetune.{length}: 0, which trains no student"
        for key in ("early_stopping.images: 64", "attention_transfer: 2.5")
    ]


def test_either_setting_keeps_the_pixels_of_deepinversion_in_range() -> None:
    for group in ({"synthesis": {"clip": True}}, {"method": {"images": {"clip": True}}}):
        document = {"quantization": {"scheme": "integer"}, **group}
        document["method"] = {"name": "deepinversion", **group.get("method", {})}
        assert list(oddities(check(document)[0])) == []


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted(ROOT.glob("configs/*.yaml"))])
def test_nothing_is_odd_about_a_shipped_experiment(path: Path) -> None:
    assert list(oddities(read(path))) == []


def test_memory_is_estimated_before_it_is_asked_for(written: Callable[[str], Path]) -> None:
    content = yaml.safe_load((ROOT / "configs/cifar10.yaml").read_text())
    content["teacher"] |= {"input_shape": [3, 200, 200]}
    content["synthesis"] = {"batch_size": 5000}
    params, problems = check(content)
    assert problems == []
    # Pixels, gradient and two moments of Adam: 5000 · 4 · 3 · 200 · 200 · 4 bytes.
    [line] = memory.too_large(params, 9_599_999_999)
    assert line == (
        "synthesis.batch_size: images of 3 × 200 × 200 need at least 9.6 GB, and this machine has "
        "9.6 GB of memory; write a smaller number; got 5000"
    )
    assert list(memory.too_large(params, 9_600_000_000)) == []
    content["synthesis"]["batch_size"] = content["finetune"]["batch_size"] = 100_000
    content["synthesis"]["num_images"] = 100_000
    total = memory.total_memory()
    assert total is None or total > 1e8
    if total is not None and total < 4e10:
        with pytest.raises(ParameterError, match=r"finetune\.batch_size: images of 3 × 200 × 200"):
            read(written(yaml.safe_dump(content)))


def test_files_that_the_parameters_name_must_exist(tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "configs/digits.yaml").read_text())
    content["teacher"] = {"pretrained": False, "checkpoint": "w.pth"}
    content["data"] = {"name": "image-folder", "root": "photographs", "classes": "classes.txt"}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ParameterError) as caught:
        examine(path, tmp_path)
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "teacher.checkpoint",
        "data.classes",
        "data.root",
    ]
    for name in ("w.pth", "classes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "photographs").mkdir()
    assert examine(path, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a [*a]", "line 1, column 8: the alias *a stands within what it names"),
        ("a: &a {b: {c: *a}}", "line 1, column 15: the alias *a stands within what it names"),
        ("a: " + "[" * 2000, f"column 53: groups are nested deeper than {MAX_DEPTH} levels"),
        ("- " * 2000, f"groups are nested deeper than {MAX_DEPTH} levels"),
        ("a: !!timestamp x", "column 4: 'x' is no value of the type !!timestamp"),
        ("a: !!bool nonsense", "column 4: 'nonsense' is no value of the type !!bool"),
        ("a: !!set x", "a tag (!!…) does not fit its value; leave it out"),
        ("a: " + "9" * 5000, "is no value of the type !!int"),
        ('a: "\\ud800"', "is no value of the type !!str"),
        ('a: "x\\0"', "is no value of the type !!str"),
        ("1: 2", "the key 1 is no text; write quotes"),
        (
            "a: &a [" + "1," * 99 + "]\nb: &b [" + "*a," * 99 + "]\nc: [" + "*b," * 99 + "]",
            "the file holds more than 100000 values",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_made_to_break_a_reader_is_refused(
    written: Callable[[str], Path], text: str, problem: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        read_yaml(written(text), "")
    [line] = caught.value.problems
    assert line.startswith("not valid YAML") and problem in line


@pytest.mark.parametrize("kind", ["folder", "large", "bytes"])
def test_what_is_no_text_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "params.yaml"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"#" * 1_000_001 if kind == "large" else b"\xff\xfe\xfd")
    with pytest.raises(ParameterError) as caught:
        read(path)
    [line] = caught.value.problems
    assert "\n" not in line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("mutations")
    return folder


def test_every_mutation_is_accepted_or_refused_in_sentences(place: Path) -> None:
    refused = 0
    for mutation in mutations(COUNT, seed=1):
        words = said(mutation, place)
        if words is not None:
            refused += 1
            key = mutation.key.rpartition(".")[0]
            for line in words.splitlines():
                assert key in line and len(line) < 600, (mutation, line)
    assert COUNT // 4 < refused < COUNT


def test_an_accepted_mutation_runs_or_ends_in_one_sentence(place: Path) -> None:
    ready = prepare(place / "ready")
    drawn = mutations(COUNT, seed=2)
    tried: list[Any] = [one for one in drawn if one.affordable and said(one, place) is None][:RUN]
    assert len(tried) == RUN
    for mutation in tried:
        end, words = verdict(mutation, place, ready)
        assert end == RUNS or (end == STOPS and len(words.splitlines()) == 1), (mutation, words)
