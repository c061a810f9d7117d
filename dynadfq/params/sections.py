"""``params.yaml`` as types, composed of the settings that each package declares.

The defaults are the paper's CIFAR-10 experiment.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from pydantic import SerializeAsAny, create_model

from dynadfq.data.config import DataConfig
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.export.config import ExportConfig
from dynadfq.methods import METHODS
from dynadfq.methods.base import ImagesConfig, beginnings
from dynadfq.methods.student import StudentConfig
from dynadfq.ops.config import PrecisionChoice
from dynadfq.quant.config import QuantizationConfig
from dynadfq.report.config import ReportConfig
from dynadfq.runtime.config import DEVICE, DEVICES, MAX_SEED, Config, setting
from dynadfq.synthesis.config import SynthesisConfig
from dynadfq.teacher.config import SimilarityConfig, TeacherConfig
from dynadfq.training.config import FinetuneConfig, SelectorConfig

METHOD = "dynadfq"
DEFAULT = "default"
PUBLISHED = {
    name for kind in METHODS.values() for preset in kind.presets for name in beginnings(preset)
}
PRESETS = (DEFAULT, *sorted(PUBLISHED))
PARTS = ("images", "student")


class MethodParams(Config):
    """The method that makes the images and trains the student. `images` and `student` hold its
    hyperparameters that differ from the preset's.
    """

    name: Literal[tuple(METHODS)] = setting(METHOD, "the method in use")  # type: ignore[valid-type]
    preset: Literal[PRESETS] = setting(  # type: ignore[valid-type]
        DEFAULT,
        "published values for a kind of data, network and width, in place of the defaults; a "
        "method without this preset uses the one that its name begins with (imagenet of "
        "imagenet-resnet18-w4), or its defaults",
    )
    images: SerializeAsAny[ImagesConfig] = METHODS[METHOD]().images
    student: SerializeAsAny[StudentConfig] = METHODS[METHOD]().student


class LaunchConfig(Config):
    """Processes on this machine. No stage declares these keys: a change re-runs nothing."""

    processes: int = setting(
        1,
        "processes that share synthesis, fine-tuning and evaluation, one per GPU; "
        "`docs/scaling.md` has several machines",
        unit="processes",
        ge=1,
        le=1024,
    )


class Params(Config):
    """Everything an experiment can vary."""

    seed: int = setting(
        0, "the one source of randomness: the same seed gives the same files", ge=0, le=MAX_SEED
    )
    device: str = setting(
        "auto",
        "where tensors live; auto is a GPU where there is one",
        pattern=DEVICE,
        allowed=DEVICES,
    )
    precision: PrecisionChoice = setting(
        "float32",
        "number type in which convolutions and linear layers multiply, in synthesis and "
        "fine-tuning; tf32 needs a GPU; auto is bfloat16 in synthesis where the processor or GPU "
        "multiplies in it, else float32; evaluation is in float32",
    )
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    method: MethodParams = MethodParams()
    quantization: QuantizationConfig = QuantizationConfig()
    selector: SelectorConfig = SelectorConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    report: ReportConfig = ReportConfig()
    launch: LaunchConfig = LaunchConfig()


@cache
def params_of(method: str) -> type[Params]:
    """Return ``Params`` with the hyperparameters of a method."""
    default = METHODS[method]()
    section = create_model(
        "MethodParams",
        __base__=MethodParams,
        images=(type(default.images), default.images),
        student=(type(default.student), default.student),
    )
    return create_model("Params", __base__=Params, method=(section, section(name=method)))
