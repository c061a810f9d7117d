"""What a row of the deployment table measures: calibration images, the student of a file, times."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import dynadfq
from benchmarks.deployment import images as calibration
from benchmarks.deployment import measure, quantizers
from benchmarks.deployment.images import Images, calibration_images
from benchmarks.deployment.measure import TIMED, times
from benchmarks.deployment.networks import Network
from benchmarks.deployment.quantizers import ours
from dynadfq.data.labelled import LabelledSet
from dynadfq.deploy import student as deployed
from dynadfq.deploy.efforts import Effort
from dynadfq.deploy.work import Work
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

NETWORK = Network("tiny", {}, class_weight=7.0, iterations=5)
MINUTES = Effort(24, 3, 8, "squant", None)


@pytest.mark.parametrize("installed", [True, False], ids=["both engines", "without OpenVINO"])
def test_a_time_is_the_files_over_the_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """A file takes 1 s and 1 s an image, the float network 4 s an image; OpenVINO twice as long."""

    def runner(model: bytes, slower: float) -> Any:
        fixed, per_image = {b"file": (1, 1), b"float": (0, 4)}[model]
        return lambda images: slower * (fixed + per_image * len(images))

    def interleaved(calls: dict[str, Any], repeats: int) -> dict[str, Any]:
        return {name: SimpleNamespace(median=repeats * call()) for name, call in calls.items()}

    def openvino(model: bytes, threads: int) -> Any:
        return runner(model, 2.0) if installed else None

    monkeypatch.setattr(measure, "onnx_runner", lambda model, *_, threads: runner(model, 1.0))
    monkeypatch.setattr(measure, "openvino_runner", openvino)
    monkeypatch.setattr(measure, "interleaved", interleaved)
    paths = [tmp_path / name for name in ("file", "float")]
    for path in paths:
        path.write_text(path.name)
    ratios = {1: 0.5, 32: 0.258}
    found = times(*paths, (3, 4, 4), repeats=3)
    assert found == {
        **{f"onnxruntime_{batch}": ratios[batch] for batch in TIMED},
        **{f"openvino_{batch}": ratios[batch] if installed else None for batch in TIMED},
    }


@pytest.fixture
def real() -> LabelledSet:
    """Eleven images; all pixels of each are its number."""
    pixels = torch.arange(11, dtype=torch.uint8).view(11, 1, 1, 1).expand(11, 3, 8, 8)
    preprocessing = Preprocessing((3, 8, 8), (0.0,) * 3, (1 / 255,) * 3)
    return LabelledSet(preprocessing, pixels, torch.zeros(11, dtype=torch.int64))


def test_real_images_are_evenly_spread_and_noise_is_the_same_each_time(
    teacher: Teacher, real: LabelledSet, tmp_path: Path
) -> None:
    def made(kind: str) -> Tensor:
        found = calibration_images(kind, 6, teacher, NETWORK, real, tmp_path, "float32")
        assert found.seconds == 0
        return found.pixels

    assert made("real")[:, 0, 0, 0].round().tolist() == [0, 2, 4, 6, 8, 10]
    noise = made("noise")
    assert noise.shape == (6, 3, 8, 8) and torch.equal(noise, made("noise"))
    assert abs(float(noise.mean())) < 0.1 and float(noise.std()) == pytest.approx(1, abs=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "options"), [("dynadfq", {"class_weight": 7.0}), ("zeroq", {})])
def test_synthetic_images_are_made_once_as_the_network_asks(
    teacher: Teacher,
    synthetic: SyntheticSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    options: dict[str, float],
) -> None:
    asked: list[tuple[Any, ...]] = []

    def synthesize(*given: Any, optimizer: Any, batch_size: int, **others: Any) -> None:
        asked.append((*given[1:], optimizer.iterations, optimizer.clip, others))

    monkeypatch.setattr(dynadfq, "synthesize", synthesize)
    monkeypatch.setattr(calibration, "SyntheticSet", lambda folder: synthetic)
    seconds = []
    for _ in range(2):
        found = calibration_images(kind, 24, teacher, NETWORK, None, tmp_path, "bfloat16")  # type: ignore[arg-type]
        assert torch.equal(found.pixels, synthetic.take(torch.arange(24)).images)
        seconds.append(found.seconds)
    options = {"folder": tmp_path / kind, "precision": "bfloat16", **options}  # type: ignore[dict-item]
    assert asked == [(kind, 24, 5, True, options)]
    assert seconds[0] == seconds[1] > 0


@pytest.mark.filterwarnings("ignore:.* beyond the range of image files")
@pytest.mark.parametrize("uniform", [False, True], ids=["wide layers", "uniform"])
@pytest.mark.parametrize(("weights", "activations"), [(8, 8), (4, 8), (4, 4)])
def test_our_file_holds_the_student_of_minutes(
    teacher: Teacher,
    synthetic: SyntheticSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: int,
    activations: int,
    uniform: bool,
) -> None:
    written: list[Student] = []
    monkeypatch.setattr(quantizers, "export_qdq", lambda student, *_, **__: written.append(student))
    images = Images(synthetic.take(torch.arange(24)).images, 0.0)
    ours(teacher, images, weights, activations, "squant", uniform, tmp_path / "file.onnx")
    scheme = deployed.scheme_of(weights, activations)
    work = Work(tmp_path, "work")
    expected = deployed.make_student(teacher, synthetic, MINUTES, scheme, uniform, 0, work)
    assert written[0].scheme == expected.scheme
    found, state = written[0].network.state_dict(), expected.network.state_dict()
    assert found.keys() == state.keys()
    assert [name for name in state if not torch.equal(found[name], state[name])] == []
