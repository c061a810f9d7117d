"""The shipped experiments, and reading what DVC writes."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml

from dynadfq.data.config import CLASSES, SHAPES
from dynadfq.data.sets import CARDS
from dynadfq.methods import METHODS
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.params import ParameterError, Params, read
from dynadfq.params.__main__ import main
from dynadfq.params.loading import check
from dynadfq.params.sections import params_of
from dynadfq.params.yaml12 import read_yaml
from dynadfq.zoo.architectures import metadata

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_valid_and_holds_what_differs(path):
    params = read(path)
    content = read_yaml(path, "")
    whole = params.model_dump(mode="json")
    assert set(content) == set(whole)
    varied = {
        "weight_bits",
        "target_bits",
        "rounding",
        "candidates",
        "pretrained",
        "processes",
        "learning_rate",
    }
    for group, default in Params().model_dump(mode="json").items():
        if isinstance(default, dict) and group != "method":
            same = {key for key, value in content[group].items() if value == default[key]}
            assert same <= varied | {"architecture", "name"}, group


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dvc_reads_the_same_values(path):
    assert load_yaml(path) == read_yaml(path, "")


def test_the_default_experiment_is_digits():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "configs" / "digits.yaml").read_bytes()


def test_the_defaults_are_the_papers_cifar10_experiment():
    of_file = read(ROOT / "configs" / "cifar10.yaml").model_dump(mode="json")
    defaults = params_of("dynadfq")().model_dump(mode="json")
    assert of_file["finetune"].pop("steps_per_epoch") == 200  # the lineage's epoch
    assert defaults["finetune"].pop("steps_per_epoch") is None  # a pass over the images
    assert of_file == defaults


def test_dynadfqs_images_follow_the_batchs_statistics_in_every_experiment():
    found = {read(path).method.images.bn_statistics for path in FILES}
    assert found == {DynaDFQ().images.bn_statistics} == {"batch_var"}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_from_every_file(name):
    """Only the name is changed, as `dvc exp run -S method.name=…` does."""
    for path in FILES:
        content = read_yaml(path, "")
        group = {"name": name, "images": {}, "student": {}}
        if name == "real_data":
            data = content["data"]
            group["images"] = {"data": data["name"], "root": data.get("root", "data")}
        content["method"] |= group
        params, problems = check(content)
        assert problems == [] or (name == "real_data" and params.data.name is None)
        assert params.method.name == name


def test_a_file_names_its_own_data_set():
    named = {"imagenet": "image-folder", "efficientnet": None}
    for path in FILES[1:]:
        first = path.stem.split("-")[0]
        assert read(path).data.name == named.get(
            first, path.stem if path.stem in CLASSES else first
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_names_a_network_that_there_is(path):
    p = read(path)
    if p.teacher.architecture.startswith("efficientnet/"):
        pytest.importorskip("timm")
    known = metadata(p.teacher.architecture)
    if p.data.name not in CLASSES:  # the network alone says what an image is
        assert p.teacher.pretrained and (known.input_shape, known.num_classes) == (
            (3, 224, 224),
            1000,
        )
        assert known.mean and known.std and known.resize == 256 and known.interpolation
    elif p.teacher.pretrained:
        assert known.num_classes == CLASSES[p.data.name]


def test_a_files_heading_is_true_of_every_method():
    titles = [read(path).report.title for path in FILES]
    assert not [title for title in titles if title and any(name in title for name in METHODS)]


@pytest.mark.parametrize("network", ["resnet18", "mobilenetv2"])
def test_the_imagenet_experiments_are_the_papers(network):
    p, cifar = read(ROOT / "configs" / f"imagenet-{network}.yaml"), Params()
    assert p.synthesis == cifar.synthesis
    assert (p.method.images, p.method.student) == (cifar.method.images, cifar.method.student)
    changed = {
        "epochs": 150,
        "steps_per_epoch": 200,
        "batch_size": 16,
        "learning_rate": 1e-6,
        "range_learning_rate": 1e-6,
        "decay_every": 30,
    }
    assert p.finetune == cifar.finetune.model_copy(update=changed)
    q = p.quantization
    assert (q.weight_bits, q.target_bits, p.selector.candidates, p.selector.learning_rate) == (
        4,
        4,
        (3, 4, 5),
        1e-4,
    )


def test_the_number_of_classes_is_the_data_sets():
    assert {name: len(card.class_names) for name, card in CARDS.items()} == CLASSES


def test_the_shape_of_images_is_the_data_sets():
    shapes = {name: (card.channels, card.size, card.size) for name, card in CARDS.items()}
    assert shapes == SHAPES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_writing_and_reading_changes_nothing(path, written):
    params = read(path)
    assert read(written(yaml.safe_dump(params.model_dump(mode="json")))) == params


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("finetune.learning_rate=1e-6", "learning_rate: 1e-06", 1e-6),
        ("method.name=zeroq", "name: zeroq", "zeroq"),
        ("selector.candidates=[2,4]", "", (2, 4)),
        ("data.image_size=null", "image_size:", None),
        ("finetune.horizontal_flip=true", "horizontal_flip: true", True),
    ],
)
def test_an_override_of_dvc_exp_run_is_read(folder, override, key, value):
    path = folder / "params.yaml"
    apply_overrides(path, [override])
    assert key in path.read_text()
    found = read(path)
    for name in override.removeprefix("+").partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/pipeline.md", "docs/scaling.md"])
def test_overrides_in_the_pages_fit_every_file(page, tmp_path):
    """A key that some files leave to its default needs plus signs."""
    keys = re.findall(r"-S '?(\+*\w+\.[\w.]+)=", (ROOT / page).read_text())
    assert keys
    for path in FILES:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        apply_overrides(copy, [f"{key}=1" for key in keys])


def test_a_missing_setting_has_its_default_and_a_missing_group_is_asked_for(written):
    whole = (ROOT / "configs" / "cifar10.yaml").read_text()
    path = written(whole.replace("evaluation: {}", "evaluation: {budgets: 3}"))
    assert read(path).evaluation == Params().evaluation.model_copy(update={"budgets": 3})
    lines = (line for line in whole.splitlines() if not re.match("similarity|seed|  preset", line))
    with pytest.raises(ParameterError) as caught:
        read(written("\n".join(lines)))
    assert caught.value.problems == (
        "seed: missing, and DVC needs it; write `seed: 0`",
        "similarity: missing, and DVC needs it; write `similarity: {}`",
        'method.preset: missing, and DVC needs it; write `preset: "default"`',
    )


def test_a_missing_method_is_asked_for_key_by_key(written):
    content = {name: value for name, value in read_yaml(FILES[0], "").items() if name != "method"}
    with pytest.raises(ParameterError) as caught:
        read(written(yaml.safe_dump(content)))
    asked = [problem.split(": missing")[0] for problem in caught.value.problems]
    assert asked == ["method.name", "method.preset", "method.images", "method.student"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1e-06", 1e-6), ("1E+2", 100.0), ("2.5e3", 2500.0), (".5", 0.5),
        ("-3", -3), ("true", True), ("~", None), ("", None), (".inf", float("inf")), ("e3", "e3"),
        ("'1e-3'", "1e-3"),
    ],
)  # fmt: skip
def test_numbers_are_those_that_dvc_writes(written, text, value):
    path = written(f"key: {text}")
    found = read_yaml(path, "")["key"]
    assert found == value and type(found) is type(value)
    assert load_yaml(path)["key"] == value


def test_merge_keys_work(written):
    merged = {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    assert read_yaml(written("a: &a {x: 1}\nb: {<<: *a, y: 2}"), "") == merged


def test_params_are_read_only():
    with pytest.raises(ValueError, match="frozen"):
        Params().finetune.epochs = 3


def test_an_edited_experiment_is_kept_when_another_is_taken(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(ParameterError, match=r"configs has .*\n  there are no experiments; run"):
        main(["use", "digits"])
    (folder / "configs").mkdir()
    for name in ("digits", "cifar100"):
        source = ROOT / "configs" / f"{name}.yaml"
        (folder / "configs" / source.name).write_bytes(source.read_bytes())
    active = folder / "params.yaml"
    assert main(["use", "cifar100"]) == "params.yaml is now configs/cifar100.yaml"
    for kept in ("params.yaml.before", "params.yaml.before-2", "params.yaml.before-3"):
        edited = active.read_bytes() + f"# {kept}\n".encode()
        active.write_bytes(edited)
        said = f"params.yaml is now configs/digits.yaml; what it was is kept as {kept}"
        assert main(["use", "digits"]) == said
        assert (folder / kept).read_bytes() == edited
        assert active.read_bytes() == (folder / "configs/digits.yaml").read_bytes()
    assert main(["use", "digits"]) == "params.yaml is now configs/digits.yaml"
    assert len(list(folder.glob("params.yaml.before*"))) == 3


def test_taking_a_ready_experiment_copies_it(folder, monkeypatch):
    (folder / "configs").mkdir()
    source = folder / "configs" / "cifar100.yaml"
    source.write_bytes((ROOT / "configs" / "cifar100.yaml").read_bytes())
    monkeypatch.chdir(folder)
    (folder / "params.yaml").unlink()
    assert main(["use", "cifar100"]) == "params.yaml is now configs/cifar100.yaml"
    assert (folder / "params.yaml").read_bytes() == source.read_bytes()
    assert main(["check"]) == "params.yaml is valid"
    with pytest.raises(
        ValueError, match=r"cifar_100\.yaml: must be one of cifar100; did you mean cifar100\?"
    ):
        main(["use", "cifar_100"])
