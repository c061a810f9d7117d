from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from interrupts import killed_after
from torch import Tensor, nn

import dynadfq
from dynadfq.api import bit_flops, finetune, quantize, synthesize
from dynadfq.quant.model import Student
from dynadfq.runtime.artifact import DamagedArtifact
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.progress import Progress
from dynadfq.synthesis import synthesize as synthesizing
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig

SCHEDULE = FinetuneConfig(epochs=2, steps_per_epoch=2, batch_size=8)


def test_the_five_verbs(
    teacher: Teacher, images: Tensor, tmp_path: Path, make_net: Callable[[], nn.Module]
) -> None:
    synthetic = dynadfq.synthesize(
        teacher, num_images=12, iterations=2, batch_size=8, similar_classes=3, class_weight=1.0
    )
    assert len(synthetic) == 12
    student = dynadfq.quantize(teacher, weight_bits=4, activation_bits=(5, 3, 4))
    assert student.scheme.activation_bits == (3, 4, 5) and student.scheme.target_bits == 4
    history = dynadfq.finetune(student, teacher, synthetic, schedule=SCHEDULE, mixup_share=0.5)
    assert len(history) == 2 and not student.training
    result = dynadfq.evaluate(student, [(images, teacher(images).argmax(dim=1))], teacher)
    assert 0 <= result.top1 <= 100 and len(result.per_image) == 256
    student.save(tmp_path)
    loaded = dynadfq.load_student(tmp_path, make_net())
    assert torch.equal(loaded(images), student(images))
    cost = dynadfq.bit_flops(student, activation_bits=4)
    assert cost.percent == pytest.approx(student.bit_flops_percent(torch.full((4,), 4.0)).item())


def test_synthetic_images_live_as_long_as_their_set(teacher: Teacher, tmp_path: Path) -> None:
    first = synthesize(teacher, num_images=4, iterations=1, batch_size=2)
    folder = first.folder
    assert folder.exists()
    kept = synthesize(teacher, num_images=4, iterations=1, batch_size=2, folder=tmp_path / "kept")
    everything = torch.arange(4)
    assert torch.equal(first.take(everything).images, kept.take(everything).images)
    del first
    assert not folder.exists()
    assert len(SyntheticSet(tmp_path / "kept").check()) == 4
    other = synthesize(
        teacher, num_images=4, batch_size=2, optimizer=PixelOptimizerConfig(iterations=0), seed=1
    )
    assert not torch.equal(other.take(everything).images, kept.take(everything).images)


def test_a_saved_set_is_the_set(teacher: Teacher, tmp_path: Path) -> None:
    images = synthesize(teacher, "gdfq", num_images=4, iterations=1, batch_size=2)
    expected = images.take(torch.arange(4))
    images.save(tmp_path / "new" / "set")
    del images  # and its temporary folder
    saved = SyntheticSet(tmp_path / "new" / "set").check()
    found = saved.take(torch.arange(4))
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.soft_labels, expected.soft_labels)
    student = quantize(teacher, activation_bits=4)
    finetune(student, teacher, saved, method="gdfq", schedule=SCHEDULE)  # with the generator
    with pytest.raises(FileExistsError, match="set is not empty; name a new folder"):
        saved.save(saved.folder)
    (saved.folder / saved.manifest["shards"][0]["file"]).write_bytes(b"")
    with pytest.raises(DamagedArtifact):
        saved.save(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_interrupted_call_goes_on_and_another_is_not_given_its_shards(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Progress, "step", lambda *_, **losses: steps.append(1))

    def interrupted(*_: object, **losses: float) -> None:
        if len(steps) == 3:  # in the middle of the second shard
            raise KeyboardInterrupt
        steps.append(1)

    def call(method: str = "dynadfq", folder: Path | None = tmp_path / "set") -> tuple[Tensor, int]:
        steps.clear()
        found = synthesize(teacher, method, num_images=4, batch_size=2, iterations=2, folder=folder)
        return found.take(torch.arange(4)).images, len(steps)

    (expected, whole), (others, _) = call(folder=None), call("zeroq", folder=None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", interrupted)
        call()
    images, taken = call("zeroq")
    assert torch.equal(images, others) and taken == whole == 4
    images, taken = call()
    assert torch.equal(images, expected) and taken == 2
    assert not list((tmp_path / "set").glob(".unfinished-*"))


@pytest.mark.parametrize(("method", "steps"), [("gdfq", 1), ("synq", 3)])
def test_unfinished_work_of_another_seed_is_not_continued(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, steps: int
) -> None:
    def call(seed: int, folder: Path | None) -> Tensor:
        options: dict[str, Any] = {"num_images": 4, "batch_size": 2, "iterations": 2}
        found = synthesize(teacher, method, seed=seed, folder=folder, **options)
        return found.take(torch.arange(4)).images

    expected = call(1, None)
    with killed_after(monkeypatch, steps):  # the generator, or the class centres, are saved by then
        call(0, tmp_path)
    assert torch.equal(call(1, tmp_path), expected)


def test_unfinished_work_in_other_batches_is_not_continued(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards that build on each other depend on the sizes of those before them."""

    def call(batch_size: int, folder: Path | None) -> Tensor:
        found = synthesize(
            teacher, "intraq", num_images=6, batch_size=batch_size, iterations=2, folder=folder
        )
        return found.take(torch.arange(6)).images

    def full_disk(*_: object) -> None:
        raise OSError("full")

    expected = call(2, None)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(synthesizing, "_write_set", full_disk)
        call(4, tmp_path)
    assert torch.equal(call(2, tmp_path), expected)


@pytest.mark.parametrize("method", ["dynadfq", "zeroq"])
def test_every_method_runs(teacher: Teacher, method: str) -> None:
    images = synthesize(teacher, method, num_images=8, iterations=1, batch_size=8)
    history = finetune(quantize(teacher), teacher, images, method=method, schedule=SCHEDULE)
    assert torch.isfinite(torch.tensor(history["loss"].to_numpy())).all()


def test_finetuning_calibrates_first(teacher: Teacher, synthetic: SyntheticSet) -> None:
    student = quantize(teacher)
    assert all((site.high == 1).all() for site in student.sites)
    history = finetune(student, teacher, synthetic, ranges="max", epochs=0)
    assert all((site.high != 1).all() for site in student.sites)
    assert len(history) == 0 and "loss" in history  # a table that the report can read


def test_length_and_rates_of_finetuning_are_arguments(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    def history(**how: Any) -> pd.DataFrame:
        return finetune(quantize(teacher, activation_bits=4), teacher, synthetic, **how)

    passes = history(epochs=2, batch_size=8, learning_rate=1e-3, decay_every=1)
    assert passes["step"].tolist() == [3, 6]  # 24 images
    assert passes["learning_rate"].tolist() == pytest.approx([1e-3, 1e-4])
    assert history(steps=1, batch_size=8)["step"].tolist() == [1]
    clipped = history(steps=2, batch_size=8, learning_rate=1e-2, max_gradient_norm=1e-3)
    free = history(steps=2, batch_size=8, learning_rate=1e-2)
    assert clipped["loss"].item() != free["loss"].item()
    with pytest.raises(InvalidArgument, match=r"^steps: 3 is given beside schedule; set it in sch"):
        history(steps=3, schedule=SCHEDULE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 1}, "weight_bits: must be in 2 … 8; got 1"),
        ({"weight_bits": 9}, "weight_bits: must be in 2 … 8; got 9"),
        (
            {"activation_bits": 16},
            "activation_bits[0]: must be a whole number in 2 … 8, or 32 for activations that stay "
            "float32; got 16",
        ),
        (
            {"activation_bits": (3, 4, 12)},
            "activation_bits[2]: must be a whole number in 2 … 8, or 32 for activations that stay "
            "float32; got 12",
        ),
        (
            {"activation_bits": (3, 4, 5), "target_bits": 6},
            "target_bits: must be within activation_bits [3, 4, 5]; got 6",
        ),
        ({"activation_bits": 4.5}, "activation_bits: must be a whole number; got 4.5"),
        ({"activation_bits": None}, "activation_bits: must be a whole number; got null"),
        (
            {"activation_bits": ()},
            "activation_bits: must be one or more whole numbers in 2 … 8, ascending, or 32 alone; "
            "got []",
        ),
        (
            {"activation_bits": (4, 4, 5)},
            "activation_bits: must be ascending without repetition; got [4, 4, 5]",
        ),
        ({"placement": "relu"}, 'placement: must be one of relu_output, layer_input; got "relu"'),
    ],
)
def test_quantize_says_what_is_wrong(
    teacher: Teacher, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        quantize(teacher, **arguments)  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert message.startswith(caught.value.argument)


def test_other_objects_than_teachers_and_students_are_refused(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    network: Any = nn.Linear(2, 2)
    for call in (
        lambda: synthesize(network),
        lambda: quantize(network),
        lambda: finetune(quantize(teacher), network, synthetic),
    ):
        with pytest.raises(InvalidArgument, match=r"teacher: must be a .*Teacher; got Linear"):
            call()
    with pytest.raises(InvalidArgument, match="student: must be what quantize returns; got Linear"):
        finetune(network, teacher, synthetic)


def test_other_objects_than_sets_of_images_are_refused(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    student = quantize(teacher)
    for images in (None, synthetic.take(torch.arange(2)).images, iter([])):
        with pytest.raises(InvalidArgument, match=r"^images: must be a set as"):
            finetune(student, teacher, images)
    wrong: Any = "2 %"
    with pytest.raises(InvalidArgument, match=r'^bit_flops_percent: must be a number; got "2 %"'):
        student.set_budget(wrong, synthetic)


@pytest.mark.parametrize("bits", [np.int64(5), np.array([5]), [np.int8(5)]])
def test_widths_are_whole_numbers_of_any_library(teacher: Teacher, bits: Any) -> None:
    assert quantize(teacher, activation_bits=bits).scheme.activation_bits == (5,)


def test_the_target_left_out_is_the_middle(teacher: Teacher) -> None:
    assert quantize(teacher, activation_bits=6).scheme.target_bits == 6
    assert not quantize(teacher, activation_bits=6).scheme.dynamic
    assert quantize(teacher, activation_bits=(2, 8, 4, 6, 3)).scheme.target_bits == 4


def test_unknown_names_are_answered_with_the_known(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    with pytest.raises(InvalidArgument, match=r"method: must be one of adadfq, .*zeroq; got"):
        synthesize(teacher, "magic")
    with pytest.raises(InvalidArgument, match="similar_clases: unknown; did you mean similar_cl"):
        synthesize(teacher, similar_clases=3)
    with pytest.raises(InvalidArgument, match="num_image: unknown; did you mean num_images"):
        synthesize(teacher, num_image=3)
    with pytest.raises(InvalidArgument, match="weight_bit: unknown; did you mean weight_bits"):
        quantize(teacher, weight_bit=3)
    with pytest.raises(InvalidArgument, match="learning_rat: unknown; did you mean learning_rate"):
        finetune(quantize(teacher), teacher, synthetic, learning_rat=3)
    with pytest.raises(InvalidArgument, match=r"diverse_ratio: must be in 0 … 1; got 1\.5"):
        synthesize(teacher, diverse_ratio=1.5)
    with pytest.raises(InvalidArgument, match="similarity: must be one of dot, cosine, centred"):
        synthesize(teacher, similarity="angle")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="ranges: must be one of max, quantile, mse, med"):
        finetune(quantize(teacher), teacher, synthetic, ranges="maximum")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="weight_granularity: must be one of channel, t"):
        quantize(teacher, weight_granularity="layer")  # type: ignore[arg-type]
    assert quantize(teacher, weight_granularity="tensor").layers[0].qparams[0].numel() == 1
    with pytest.raises(InvalidArgument, match=r"^epoch: unknown; did you mean epochs") as caught:
        FinetuneConfig(epoch=3)  # type: ignore[call-arg]
    assert "http" not in str(caught.value)
    student = quantize(teacher)
    before = [site.ranges for site in student.sites]
    with pytest.raises(InvalidArgument, match="budget: must be one of penalty, constraint"):
        finetune(student, teacher, synthetic, budget="multiplier")  # type: ignore[arg-type]
    assert [site.ranges for site in student.sites] == before, "refused before any work"
    with pytest.raises(ValueError, match="similar_classes: 7 exceeds the 6 classes"):
        synthesize(teacher, num_images=4, iterations=1, similar_classes=7)


def test_bit_flops_of_teacher_student_and_module(
    teacher: Teacher, make_student: Callable[..., Student]
) -> None:
    of_teacher = bit_flops(teacher, weight_bits=4, activation_bits=4)
    of_module = bit_flops(teacher.module, (3, 8, 8), weight_bits=4, activation_bits=4)
    of_student = bit_flops(make_student(4), activation_bits=4)
    assert of_teacher.total == of_module.total == of_student.total
    assert of_teacher.percent < bit_flops(teacher, activation_bits=5).percent < 100
    assert list(of_teacher.layers["layer"]) == ["conv1", "conv2", "conv3", "conv4", "fc"]
    with pytest.raises(ValueError, match="input_shape: a bare network does not know it"):
        bit_flops(teacher.module)


def test_public_names_exist_and_are_imported_late() -> None:
    assert all(getattr(dynadfq, name) is not None for name in dynadfq.__all__)
    assert {name for name in dir(dynadfq) if not name.startswith("__")} == set(dynadfq.__all__)
    source = Path(dynadfq.__file__).read_text()
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    [of_api] = [node for node in imports if node.module == "dynadfq.api"]
    assert [name.name for name in of_api.names] == dynadfq.__all__, "what type checkers see"
    modules = {path.stem for path in Path(dynadfq.__file__).parent.iterdir()}
    assert not modules & set(dynadfq.__all__), (
        "a module, once imported, would hide the function of its name"
    )
    with pytest.raises(AttributeError, match="has no attribute 'quantizer'"):
        _ = dynadfq.quantizer  # type: ignore[attr-defined]
    code = "import sys, dynadfq; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_iterations_beside_an_optimizer_are_refused(teacher: Teacher) -> None:
    with pytest.raises(InvalidArgument, match=r"^iterations: 3 is given beside optimizer"):
        synthesize(teacher, iterations=3, optimizer=PixelOptimizerConfig(iterations=2))
