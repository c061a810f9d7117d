from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import dynadfq
from dynadfq.cli import export, similarity
from dynadfq.cli.app import COMMANDS as app_commands
from dynadfq.cli.app import app
from dynadfq.cli.output import output_file, print_table
from dynadfq.export import onnx_export
from dynadfq.export import program as deployed_program
from dynadfq.export.config import ExportConfig
from dynadfq.export.conversion_report import Fact
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.export.onnx_export import Export
from dynadfq.ops.preprocess import Preprocessing, read_image
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.config import Measure, SimilarityConfig

ROOT = Path(__file__).parents[2]
PREPROCESSING = Preprocessing((3, 16, 16), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
COMMANDS = [command.NAME for command in app_commands]
WITHOUT_A_MODEL = ("calibrate", "quantize", "init", "compare", "check")
Run = Callable[..., Any]


def test_the_version_is_that_of_the_library(run: Run) -> None:
    assert run("--version").out == f"dynadfq {dynadfq.__version__}\n"
    assert f"\nversion: {dynadfq.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    shown = run("--help").out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_a_table_is_cut_to_a_terminal_and_plain_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["conv1 [bold]", 4, None], ["x" * 100, 16, 0.5]]
    print_table(["layer", "bits", "range"], rows)
    plain = capsys.readouterr().out.splitlines()
    assert len(plain) == 3 and plain[1].split() == ["conv1", "[bold]", "4"]
    assert plain[0].rfind("bits") == 102 and plain[1].index("4") == 105
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["layer", "bits", "range"], rows)
    assert all(len(line) <= 60 + 8 for line in capsys.readouterr().out.splitlines())


def test_every_command_has_help_with_examples_that_name_it(run: Run) -> None:
    assert [command.name for command in app.registered_commands] == COMMANDS
    assert len(set(COMMANDS)) == len(COMMANDS) >= 10
    for name in COMMANDS:
        shown = run(name, "--help")
        assert shown.status == 0 and "--json" in shown.out
        assert len(re.findall(rf"dynadfq {name}\b", shown.out.split("Examples:")[1])) >= 2


def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from dynadfq.cli.app import main
try:
    main(["predict", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "False"


def test_the_console_script_is_the_module(models: Any) -> None:
    script = (ROOT / "pyproject.toml").read_text().split("[project.scripts]\n")[1].splitlines()[0]
    assert script == 'dynadfq = "dynadfq.cli.app:main"'
    done = subprocess.run(
        [sys.executable, "-m", "dynadfq", "inspect", str(models.images)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.count("\n") == 1 and "MODEL: " in done.stderr and "teacher.json" in done.stderr
    )


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in WITHOUT_A_MODEL])
def test_a_folder_without_a_model_is_one_sentence(run: Run, tmp_path: Path, command: str) -> None:
    more = ["image.png"] if command in ("predict", "evaluate") else []
    for folder, reason in (
        (tmp_path, "neither student.json nor teacher.json"),
        (tmp_path / "no", "not a folder"),
    ):
        failed = run(command, folder, *more)
        assert failed.status == 1 and failed.out == ""
        assert failed.err.startswith(f"dynadfq: MODEL: {folder} ") and reason in failed.err
        assert failed.err.count("\n") == 1


def test_wrong_usage_is_status_2(run: Run, models: Any) -> None:
    assert run("predict", models.student).status == 2
    assert run("similarity", models.teacher, "--measure", "angle").status == 2
    assert run("budget", models.student, "--to", "x").status == 2
    assert run("frobnicate").status == 2


def test_inspect_names_what_is_fixed_dynamic_and_skipped(run: Run, models: Any) -> None:
    found = run("inspect", models.student, "--json").json
    layers = {layer["layer"]: layer for layer in found["layers"]}
    assert len(layers) == 22
    first, *rest, last = found["layers"]
    assert (first["status"], first["activation_bits"], first["weight_bits"]) == ("skipped", [32], 4)
    assert first["reason"] == "it reads the network's input"
    assert last["status"] == "skipped" and "no activation's output" in last["reason"]
    assert (rest[0]["status"], rest[0]["activation_bits"]) == ("fixed", [5])
    assert all(
        (one["status"], one["activation_bits"]) == ("dynamic", [3, 4, 5]) for one in rest[1:]
    )
    assert all(low <= 0 < high for one in rest for low, high in one["range"])
    student = dynadfq.load_student(models.student)
    assert sum(one["macs"] for one in found["layers"]) == student.cost.trace.layer_macs
    assert sum(found["macs_percent"].values()) == pytest.approx(100)
    assert found["bit_flops_percent"]["target"] == pytest.approx(student.cost.at(4).percent)
    text = run("inspect", models.student).out
    assert all(name in text for name in layers) and "it runs before the selector" in text


def test_inspect_a_student_whose_weights_alone_are_quantized(
    run: Run, models: Any, tmp_path: Path
) -> None:
    dynadfq.quantize(dynadfq.load_teacher(models.teacher), 4, 32).save(tmp_path)
    found = run("inspect", tmp_path, "--json").json
    assert found["macs_percent"] == {"weights": 100}
    assert {layer["reason"] for layer in found["layers"]} == {""}
    assert run("inspect", tmp_path).out.count("activations: stay float32") == 1


def test_inspect_a_fixed_student_and_a_teacher(run: Run, models: Any) -> None:
    fixed = run("inspect", models.fixed, "--json").json
    assert {layer["status"] for layer in fixed["layers"]} == {"fixed", "skipped"}
    assert len(set(fixed["bit_flops_percent"].values())) == 1
    teacher = run("inspect", models.teacher, "--json").json
    assert {layer["status"] for layer in teacher["layers"]} == {"float"} and teacher[
        "batch_norms"
    ] == 21


def test_inspect_shows_the_preprocessing_and_its_origin(run: Run, models: Any) -> None:
    found = run("inspect", models.teacher, "--json").json
    assert (found["mean"], found["interpolation"]) == ([0.5, 0.4, 0.3], "bilinear")
    assert (
        found["origins"]["mean"] == "as given"
        and found["origins"]["interpolation"] == "pytorchcv's metadata"
    )
    text = run("inspect", models.student).out
    assert (
        "mean: 0.5, 0.4, 0.3 (as given)" in text and "input shape: 3 × 16 × 16 (as given)" in text
    )


def test_predictions_are_those_of_the_integer_form(run: Run, models: Any) -> None:
    found = run("predict", models.student, models.images, "--json", "--top 2").json
    assert [Path(one["file"]).name for one in found] == ["0.png", "1.png", "2.png"]
    student = dynadfq.load_student(models.student)
    for one in found:
        pixels = read_image(one["file"], PREPROCESSING)[None]
        logits, bits = to_integer_form(student).run(PREPROCESSING.normalize(pixels))
        assert one["index"] == logits.argmax().item()
        assert one["probability"] == pytest.approx(logits.double().softmax(dim=1).max().item())
        assert one["bits"] == bits[0].tolist()
        assert one["bit_flops_percent"] == pytest.approx(student.bit_flops_percent(bits).item())
        assert [top["index"] for top in one["top"]] == logits[0].topk(2).indices.tolist()


def test_images_come_from_folders_patterns_and_stdin(
    run: Run, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_folder = run("predict", models.student, models.images).out
    assert (
        run("predict", models.student, models.images / "*.png", "--batch-size", 1).out == by_folder
    )
    paths = sorted(models.images.glob("*.png"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{path}\n" for path in paths)))
    assert run("predict", models.student, "-").out == by_folder
    assert len(by_folder.splitlines()) == 4


def test_paths_on_stdin_may_end_as_on_windows_and_must_be_there(
    run: Run, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{models.images / '0.png'}\r\n"))
    assert run("predict", models.fixed, "-").status == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    nothing = run("predict", models.fixed, "-")
    assert nothing.status == 1 and "no path on standard input" in nothing.err


def test_a_file_that_is_no_image_does_not_stop_the_others(
    run: Run, models: Any, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_text("no image")
    files = (models.images / "0.png", tmp_path / "broken.png", tmp_path / "gone.png")
    done = run("predict", models.student, *files)
    assert done.status == 1 and len(done.out.splitlines()) == 2
    broken, gone = done.err.splitlines()
    assert "broken.png: not an image" in broken and "gone.png: no such" in gone
    nothing = run("predict", models.student, tmp_path / "*.jpg")
    assert nothing.status == 1 and "IMAGES: no file matches" in nothing.err and not nothing.out
    (tmp_path / "broken.png").unlink()
    assert "holds no image" in run("predict", models.student, tmp_path).err


def test_a_multiplier_makes_predictions_cheaper(run: Run, models: Any) -> None:
    def cost(more: str) -> float:
        found = run("predict", models.student, models.images, "--json", more).json
        return sum(one["bit_flops_percent"] for one in found)

    assert cost("--multiplier 1e6") < cost("") < cost("--multiplier -1e6")
    assert run("predict", models.fixed, models.images, "--multiplier 1").status == 1
    for model, number in ((models.teacher, "1"), (models.student, "nan")):
        refused = run("predict", model, models.images, "--multiplier", number).err
        assert refused.startswith("dynadfq: --multiplier: ")
    assert run("predict", models.teacher, models.images, "--json").json[0]["mean_bits"] == 32


def test_a_budget_is_set_and_saved(run: Run, models: Any, tmp_path: Path) -> None:
    reach = run("budget", models.student, "--json").json["bit_flops_percent"]
    budget = (reach["lowest"] + reach["highest"]) / 2
    set_to = ("--bit-flops-percent", budget, "--images", models.synthetic)
    found = run("budget", models.student, *set_to, "--to", tmp_path / "cheap", "--json").json
    assert found["setting"]["bit_flops_percent"] <= budget + 1e-6
    assert found["setting"]["images"] == 16
    saved = dynadfq.load_student(tmp_path / "cheap")
    assert saved.multiplier == found["multiplier"] == found["setting"]["multiplier"]
    assert "reached" in run("budget", models.student, *set_to).out
    too_much = run("budget", models.student, "--bit-flops-percent 99 --images", models.synthetic)
    assert too_much.status == 1
    assert too_much.err.startswith("dynadfq: --bit-flops-percent: 99 is outside")
    nowhere = run("budget", models.student, f"--bit-flops-percent {budget} --images nowhere")
    assert nowhere.status == 1 and nowhere.err.startswith("dynadfq: --images: nowhere holds no ")
    assert "a fixed width" in run("budget", models.fixed, *set_to).err
    assert "holds a teacher" in run("budget", models.teacher).err


@pytest.mark.parametrize(
    "options",
    [
        "--input-shape nan,16,16",
        "--input-shape 3,16.7,16",
        "--input-shape 3,16",
        "--device foo",
        "--device cpu:0",
    ],
)
def test_options_of_a_float_network_are_checked(run: Run, tmp_path: Path, options: str) -> None:
    network = "pytorchcv/resnet20_cifar10 --effort seconds"
    found = run(f"quantize {network} --checkpoint none.pth --to", tmp_path / "a.onnx", options)
    assert found.status == 1 and found.err.count("\n") == 1
    if "input-shape" in options:
        assert found.err.startswith("dynadfq: --input-shape: ")


def test_a_teachers_folder_says_itself_what_it_is(run: Run, models: Any, tmp_path: Path) -> None:
    to = ("--effort seconds --to", tmp_path / "a.onnx")
    for option, value in (("--mean", "0.1,0.2,0.3"), ("--num-classes", "7"), ("--checkpoint", "a")):
        found = run("quantize", models.teacher, *to, option, value)
        assert found.status == 1 and found.err.startswith(f"dynadfq: {option}: ")


def test_bench_puts_time_beside_cost(run: Run, models: Any) -> None:
    threads = torch.get_num_threads()
    few = "--batch 1 --batch 3 --repeats 3 --engine torch --json"
    found = run("bench", models.student, few).json
    assert torch.get_num_threads() == threads
    assert [(row["network"], row["batch"]) for row in found["times"]] == [
        (name, size) for size in (1, 3) for name in ("float", "student, integer form")
    ]
    for row in found["times"]:
        names = ("best", "lower_quartile", "ms_per_image", "upper_quartile")
        assert sorted(times := [row[name] for name in names]) == times and times[0] > 0
    assert found["times"][0]["to_float"] == 1 and found["times"][0]["bit_flops_percent"] == 100
    student = dynadfq.load_student(models.student)  # what its images choose, not its target
    images = torch.randn(3, *PREPROCESSING.input_shape, generator=torch.Generator().manual_seed(0))
    spent = student.bit_flops_percent(dynadfq.to_integer_form(student).run(images)[1]).mean().item()
    assert found["times"][3]["bit_flops_percent"] == pytest.approx(spent)
    assert abs(spent - student.cost.at(student.scheme.target_bits).percent) > 0.01
    lines = run("bench", models.teacher, "--batch", 1, "--repeats", 2).out.splitlines()
    assert len(lines) == 2 and "ms per image" in lines[0]


def test_bench_leaves_out_an_engine_that_is_not_there(
    run: Run, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    shown = run("bench", models.fixed, "--batch 1 --repeats 2")
    assert "left out onnxruntime: ONNX export needs onnxruntime: pip" in shown.err
    names = [line.split("  ")[0] for line in shown.out.splitlines()[1:]]
    assert names == ["float", "student, integer form"] and shown.status == 0
    assert run("bench", models.student, "--engine", "abacus").status == 2


def test_similarity_is_the_teachers(run: Run, models: Any) -> None:
    teacher = dynadfq.load_teacher(models.teacher)
    similarity = dynadfq.class_similarity(teacher, "cosine")
    found = run("similarity", models.teacher, "--measure", "cosine", "--top", 2, "--json").json
    assert len(found) == 20
    for row in found:
        a, b = (teacher.class_names.index(row[key]) for key in ("class", "similar"))
        assert row["similarity"] == pytest.approx(similarity[a, b].item())
    one = run("similarity", models.student, "--class", "dog").out
    assert [line.split()[:2] for line in one.splitlines()[1:]] == [
        ["dog", str(rank)] for rank in (1, 2, 3)
    ]
    wrong = run("similarity", models.teacher, "--class", "dug")
    assert wrong.status == 1 and "'dug' is not a class" in wrong.err and "nearest: dog" in wrong.err


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the exporters were asked for; tests/export runs them, which takes long."""
    asked: list[tuple[Any, ...]] = []
    facts = (
        Fact("conv", "integer", 12.0),
        Fact("output", "float64", reason="reads no quantized activation"),
    )

    def onnx(student: Student, path: Path, images: Tensor) -> Export:
        asked.append(("onnx", path, images))
        path.write_bytes(b"onnx")
        return Export(path, 4, len(images), 1e-6, facts)

    def program(student: Student, path: Path, images: Tensor) -> Any:
        asked.append(("pt2", path, images))
        path.write_bytes(b"program")
        return SimpleNamespace(facts=facts)

    monkeypatch.setattr(onnx_export, "export_onnx", onnx)
    monkeypatch.setattr(deployed_program, "export_program", program)
    return asked


def test_export_is_checked_on_synthetic_images_or_files(
    run: Run, models: Any, tmp_path: Path, exports: list[tuple[Any, ...]]
) -> None:
    path = tmp_path / "a.onnx"
    options = ("--check", models.synthetic, "--check-images 4 --json")
    found = run("export", models.fixed, "-o", path, *options).json
    assert (found["bytes"], found["check_images"]) == (4, 4)
    assert found["worst_logit_difference"] == 1e-6
    assert found["not_integer"] == ["output: float64 (reads no quantized activation)"]
    assert exports[0][0] == "onnx"
    assert torch.equal(exports[0][2], SyntheticSet(models.synthetic).take(torch.arange(4)).images)
    done = run("export", models.fixed, "--to pt2 --check", models.images, "-o", tmp_path / "a.pt2")
    assert done.status == 0 and "7 bytes, checked on 3 images" in done.out
    files = sorted(models.images.iterdir())
    pixels = torch.stack([read_image(file, PREPROCESSING) for file in files])
    assert torch.equal(exports[1][2], PREPROCESSING.normalize(pixels))
    run("export", models.fixed, "--to", "pt2", "--check", models.images)
    assert exports[2][1] == models.fixed.resolve().parent / "fixed.pt2"


def test_export_says_what_is_missing(
    run: Run, models: Any, tmp_path: Path, exports: list[tuple[Any, ...]]
) -> None:
    folder = run("export", models.fixed, "--check", models.synthetic, "-o", tmp_path)
    assert folder.status == 1
    assert folder.err == f"dynadfq: --output: {tmp_path} is a folder; name a file\n"
    (tmp_path / "deep/er").mkdir(parents=True)
    empty = run("export", models.fixed, "--check", f"{tmp_path}/*")
    assert empty.status == 1 and empty.err.startswith("dynadfq: --check: no file matches")
    missing = run("export", models.fixed, "--check", tmp_path / "none")
    assert missing.status == 1 and missing.err.startswith("dynadfq: --check: ")
    assert run("export", models.teacher).err.startswith("dynadfq: MODEL: ") and not exports


def test_defaults_of_options_are_those_of_the_settings():
    # The commands write them again, so that --help is there before torch has loaded.
    assert signature(export.run).parameters["check_images"].default == ExportConfig().check_images
    measure = signature(similarity.run).parameters["measure"]
    assert measure.default == SimilarityConfig().measure
    assert set(get_args(similarity.MeasureOption.__origin__)) == set(get_args(Measure))


def test_a_network_that_answers_no_numbers_is_reported(
    run: Run, models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = IntegerForm.run

    def second_is_nan(self: IntegerForm, images: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
        logits, bits = call(self, images, *more)
        logits[1] = float("nan")
        return logits, bits

    monkeypatch.setattr(IntegerForm, "run", second_is_nan)
    for options in ("--json", ""):
        done = run("predict", models.fixed, models.images, options)
        assert done.status == 1 and "nan" not in done.out
        assert done.err.count("\n") == 1 and "1.png: the network's logits are NaN" in done.err
    shown = run("predict", models.fixed, models.images, "--json").json
    assert [Path(one["file"]).name for one in shown] == ["0.png", "2.png"]


def test_a_file_replaces_neither_a_link_nor_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    assert output_file(tmp_path / "link", "--output") == tmp_path / "there" / "file"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "to-pipe"):
        with pytest.raises(ValueError, match=f"--output: .*/{name} is not a regular file"):
            output_file(tmp_path / name, "--output")
    with pytest.raises(FileExistsError, match="pipe is a device or the like"):
        atomic_write(tmp_path / "pipe", b"")
    with pytest.raises(ValueError, match="--output: /dev/null is not a regular file"):
        output_file(Path("/dev/null"), "--output")
    with pytest.raises(ValueError, match="is a folder"):
        output_file(tmp_path, "--output")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    def completed(words: str) -> str:
        monkeypatch.setenv("_DYNADFQ_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        return str(run().out)

    assert "predict" in completed("dynadfq pre") and "inspect" not in completed("dynadfq pre")
    assert "--bit-flops-percent" in completed("dynadfq budget --bit")
