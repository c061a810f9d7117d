"""``params.yaml`` as types. The defaults are the paper's CIFAR-10 experiment."""

from __future__ import annotations

from dynadfq.data.config import DataConfig
from dynadfq.evaluation.config import EvaluationConfig
from dynadfq.export.config import ExportConfig
from dynadfq.methods import Methods
from dynadfq.ops.precision import Precision
from dynadfq.quant.config import QuantizationConfig
from dynadfq.report.config import ReportConfig
from dynadfq.runtime.config import Config, setting
from dynadfq.synthesis.config import SynthesisConfig
from dynadfq.teacher.config import SimilarityConfig, TeacherConfig
from dynadfq.training.config import FinetuneConfig, SelectorConfig


class LaunchConfig(Config):
    """How the work is divided on this machine. No stage declares these keys: a change re-runs
    nothing.
    """

    processes: int = setting(
        1,
        "processes that share synthesis, fine-tuning and evaluation, one a GPU; `docs/scaling.md` has several machines",
        unit="processes",
        ge=1,
    )


class Params(Config):
    """Everything an experiment can vary."""

    seed: int = setting(0, "the one source of randomness: the same seed gives the same files", ge=0)
    device: str = setting(
        "auto",
        "where tensors live; auto is a GPU where there is one",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        allowed="one of auto, cpu, cuda, cuda:N",
    )
    precision: Precision = setting(
        "float32",
        "what convolutions and linear layers multiply with while images are made and students learn; tf32 needs a GPU; "
        "evaluation is in float32",
    )
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = TeacherConfig()
    similarity: SimilarityConfig = SimilarityConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    method: Methods = Methods()
    quantization: QuantizationConfig = QuantizationConfig()
    selector: SelectorConfig = SelectorConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    report: ReportConfig = ReportConfig()
    launch: LaunchConfig = LaunchConfig()
