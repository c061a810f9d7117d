"""What a stage sees of the parameters."""

from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from dynadfq.data.config import DataConfig
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.methods.zeroq import ZeroQ
from dynadfq.params import ParameterError, load, read
from dynadfq.params.view import declared, key_of, narrow
from stages.evaluate import EvaluateParams
from stages.export import ExportParams
from stages.finetune import FinetuneParams, FixedParams
from stages.plot import PlotParams
from stages.similarity import SimilarityParams
from stages.synthesize import SynthesizeParams
from stages.teacher import TeacherParams
from stages.trial import TrialParams

ROOT = Path(__file__).parents[2]
VIEWS = {
    "teacher": TeacherParams,
    "similarity": SimilarityParams,
    "trial": TrialParams,
    "synthesize": SynthesizeParams,
    "finetune": FinetuneParams,
    "finetune_fixed": FixedParams,
    "evaluate": EvaluateParams,
    "export": ExportParams,
    "plot": PlotParams,
}


def use(folder, old: str, new: str) -> None:
    path = folder / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_view_has_the_parameters_that_dvc_follows():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name: set(declared(view)) for name, view in VIEWS.items()} == {
        name: set(stage["params"]) for name, stage in stages.items() if name != "check"
    }


def test_a_group_is_its_typed_object_and_nothing_else_is_seen(folder):
    view, params = load(TeacherParams, folder / "params.yaml"), read(folder / "params.yaml")
    assert view.data == params.data and isinstance(view.data, DataConfig)
    assert view.seed == 0 and view.device == "auto"
    assert not hasattr(view, "synthesis")
    assert not hasattr(load(FixedParams, folder / "params.yaml"), "selector")
    with pytest.raises(ValueError, match="frozen"):
        view.seed = 3


@pytest.mark.parametrize(("name", "method"), [("dynadfq", DynaDFQ), ("zeroq", ZeroQ)])
def test_images_and_student_are_those_of_the_method_in_use(folder, name, method):
    use(folder, "name: dynadfq", f"name: {name}")
    images = load(SynthesizeParams, folder / "params.yaml").method
    student = load(FinetuneParams, folder / "params.yaml").method
    assert images.name == student.name == name
    assert type(images.images) is type(method().images)
    assert type(student.student) is type(method().student)
    assert not hasattr(images, "student") and not hasattr(student, "images")


def test_an_undeclared_key_does_not_change_what_a_stage_sees(folder):
    def seen():
        return load(SynthesizeParams, folder / "params.yaml").model_dump(mode="json")

    before = seen()
    use(folder, "student: {}", "student: {temperature: 4.0}")
    use(folder, "weight_bits: 4", "weight_bits: 3")
    assert seen() == before
    use(folder, "images: {}", "images: {similar_classes: 3}")
    assert seen() != before
    assert seen()["method"]["images"]["similar_classes"] == 3


def test_dvc_follows_every_group_of_the_shipped_file(folder):
    (folder / "dvc.yaml").write_text(
        yaml.safe_dump(
            {
                "stages": {
                    name: {"cmd": "true", "params": list(declared(view))}
                    for name, view in VIEWS.items()
                }
            }
        )
    )
    written = yaml.safe_load((folder / "params.yaml").read_text())
    with Repo.init(folder, no_scm=True) as repo:
        for stage in repo.index.stages:
            [dependency] = stage.params
            followed = dependency.read_params()
            assert set(followed) == set(declared(VIEWS[stage.name]))
            assert all(followed[key] == written[key] for key in followed if "." not in key)


def test_a_view_of_everything_seen_is_the_same_again(folder):
    params = read(folder / "params.yaml")
    for view in VIEWS.values():
        seen = narrow(params, view)
        assert narrow(seen, view) == seen


def test_an_argument_is_found_under_its_key(folder):
    view = load(FinetuneParams, folder / "params.yaml")
    assert key_of(view, "batch_size") == "finetune.batch_size"
    assert key_of(view, "mixup_share") == "method.student.mixup_share"
    assert key_of(view, "nothing") is None


def test_the_whole_file_is_checked_whatever_the_stage_declares(folder):
    use(folder, "weight_bits: 4", "weight_bits: 16")
    with pytest.raises(ParameterError, match=r"quantization\.weight_bits: must be in 2 … 8"):
        load(SimilarityParams, folder / "params.yaml")
