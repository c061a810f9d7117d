"""What a stage sees of the parameters."""

import copy
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from dynadfq.data.config import DataConfig
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.methods.zeroq import ZeroQ
from dynadfq.params import ParameterError, load, read
from dynadfq.params.yaml12 import read_yaml
from dynadfq.quant.config import QuantizationConfig

ROOT = Path(__file__).parents[2]


def use(folder, old: str, new: str) -> None:
    path = folder / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_declared_group_is_its_typed_object(folder):
    view, params = load("teacher", folder / "params.yaml"), read(folder / "params.yaml")
    assert view.data == params.data and isinstance(view.data, DataConfig)
    assert view.seed == 0 and view.device == "auto"
    assert isinstance(load("finetune", folder / "params.yaml").quantization, QuantizationConfig)


def test_reading_an_undeclared_key_fails_by_name(folder):
    view = load("similarity", folder / "params.yaml")
    with pytest.raises(AttributeError) as caught:
        _ = view.synthesis
    assert str(caught.value) == "stage `similarity` does not declare `synthesis` in dvc.yaml"
    with pytest.raises(AttributeError) as caught:
        _ = load("finetune_fixed", folder / "params.yaml").quantization.rounding
    assert (
        str(caught.value)
        == "stage `finetune_fixed` does not declare `quantization.rounding` in dvc.yaml"
    )


def test_a_partly_declared_group_shows_its_part(folder):
    view = load("finetune_fixed", folder / "params.yaml")
    assert view.finetune.epochs == read(folder / "params.yaml").finetune.epochs
    assert view.quantization.ranges.observer == "median_max"
    assert not hasattr(view.finetune, "learning_rate")
    assert not hasattr(view, "data")


def test_a_name_that_is_no_parameter_says_so(folder):
    with pytest.raises(
        AttributeError, match=r"^`finetune\.lr` is not a parameter; docs/params\.md lists them$"
    ):
        _ = load("finetune_fixed", folder / "params.yaml").finetune.lr


@pytest.mark.parametrize(("name", "method"), [("dynadfq", DynaDFQ), ("zeroq", ZeroQ)])
def test_the_method_in_use_stands_for_itself(folder, name, method):
    use(folder, "name: dynadfq", f"name: {name}")
    images = load("synthesize", folder / "params.yaml").method
    student = load("finetune", folder / "params.yaml").method
    assert images.name == name
    written = getattr(read(folder / "params.yaml").method, name)
    assert images.images == written.images and type(images.images) is type(method().images)
    assert student.student == written.student and type(student.student) is type(method().student)
    with pytest.raises(
        AttributeError,
        match=rf"^stage `synthesize` does not declare `method\.{name}\.student` in dvc\.yaml$",
    ):
        _ = images.student


def test_the_other_method_stays_out_of_sight(folder):
    with pytest.raises(AttributeError, match=r"does not declare `method\.zeroq`"):
        _ = load("synthesize", folder / "params.yaml").method.zeroq


def test_a_whole_declared_method_also_stands_for_itself(folder):
    view, method = load("everything", folder / "params.yaml"), read(folder / "params.yaml").method
    assert view.method.images == method.dynadfq.images
    assert view.method.zeroq == method.zeroq


def test_the_dict_is_the_declared_part_sorted(folder):
    written = read_yaml(folder / "params.yaml", "")[0]
    part = load("finetune_fixed", folder / "params.yaml").as_dict()
    assert part == {
        "device": written["device"],
        "finetune": {"epochs": written["finetune"]["epochs"]},
        "quantization": {name: written["quantization"][name] for name in ("ranges", "weight_bits")},
    }
    assert list(part["quantization"]["ranges"]) == sorted(written["quantization"]["ranges"])
    view = load("synthesize", folder / "params.yaml").as_dict()
    assert list(view) == ["method", "seed", "synthesis"] == sorted(view)
    assert view["method"] == {
        "dynadfq": {"images": written["method"]["dynadfq"]["images"]},
        "name": "dynadfq",
    }
    assert list(view["synthesis"]) == sorted(view["synthesis"])


def test_the_dict_of_a_nested_view_is_the_part_below_it(folder):
    view = load("finetune_fixed", folder / "params.yaml")
    assert view.quantization.as_dict() == view.as_dict()["quantization"]
    whole = load("everything", folder / "params.yaml")
    assert whole.method.as_dict() == read(folder / "params.yaml").method.model_dump()
    assert whole.as_dict() == read(folder / "params.yaml").model_dump(mode="json")


def test_an_undeclared_key_does_not_change_the_dict(folder):
    before = load("synthesize", folder / "params.yaml").as_dict()
    use(folder, "temperature: 20.0", "temperature: 4.0")
    use(folder, "weight_bits: 4", "weight_bits: 3")
    assert load("synthesize", folder / "params.yaml").as_dict() == before
    use(folder, "similar_classes: 2", "similar_classes: 3")
    assert load("synthesize", folder / "params.yaml").as_dict() != before


def test_the_dict_is_what_dvc_itself_follows(folder):
    graph = yaml.safe_load((folder / "dvc.yaml").read_text())
    names = ("teacher", "synthesize", "finetune")
    stages = {name: {**graph["stages"][name], "cmd": "true"} for name in names}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with Repo.init(folder, no_scm=True) as repo:
        assert sorted(stage.name for stage in repo.index.stages) == sorted(names)
        for stage in repo.index.stages:
            followed = {
                key: value for dep in stage.params for key, value in dep.read_params().items()
            }
            assert _flat(followed) == _flat(load(stage.name, folder / "params.yaml").as_dict())


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        k: v for name, value in tree.items() for k, v in _flat(value, f"{prefix}.{name}").items()
    }


@pytest.mark.parametrize("name", ["dynadfq", "zeroq"])
def test_every_stage_of_the_pipeline_declares_parameters(folder, name):
    shutil.copy(ROOT / "dvc.yaml", folder)
    use(folder, "name: dynadfq", f"name: {name}")
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    assert all(load(stage, folder / "params.yaml").as_dict() for stage in stages)


def test_a_stage_without_params_sees_nothing(folder):
    assert load("evaluate", folder / "params.yaml").as_dict() == {}


def test_a_repeated_stage_is_read(folder):
    assert load("each", folder / "params.yaml").report.grid_images == 32


def test_a_view_is_read_only_and_can_be_copied(folder):
    view = load("teacher", folder / "params.yaml")
    with pytest.raises(AttributeError, match=r"`seed` is read-only; change params\.yaml"):
        view.seed = 3
    assert copy.copy(view).seed == 0


def test_the_whole_file_is_checked_whatever_the_stage_declares(folder):
    use(folder, "weight_bits: 4", "weight_bits: 16")
    with pytest.raises(
        ParameterError, match=r"quantization\.weight_bits: must be in 2 … 8; got 16"
    ):
        load("similarity", folder / "params.yaml")


def test_an_unknown_stage_suggests_the_nearest(folder):
    with pytest.raises(ParameterError) as caught:
        load("synthesise", folder / "params.yaml")
    assert caught.value.problems == ("stages.synthesise: no such stage; did you mean synthesize?",)


def test_a_stage_that_declares_what_is_not_there_is_refused(folder):
    graph = folder / "dvc.yaml"
    graph.write_text(
        "stages: {plot: {params: [report, finetune.lr, 'method.${method.nam}.images', seed.x]}}"
    )
    with pytest.raises(ParameterError) as caught:
        load("plot", folder / "params.yaml")
    assert caught.value.problems == (
        "stages.plot.params: `finetune.lr` is not a parameter",
        "stages.plot.params: `method.${method.nam}.images` is not a parameter",
        "stages.plot.params: `seed.x` is not a parameter",
    )


def test_a_missing_graph_is_reported(folder):
    (folder / "dvc.yaml").unlink()
    with pytest.raises(ParameterError) as caught:
        load("plot", folder / "params.yaml")
    assert caught.value.problems == (
        "the file does not exist; it declares what each stage may read",
    )
