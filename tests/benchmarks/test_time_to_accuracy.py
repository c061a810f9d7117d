"""Accuracy against time: plans that fit, a search by hand, rows measured once, and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import dynadfq
from benchmarks.deployment import networks
from benchmarks.time_to_accuracy import __main__ as command
from benchmarks.time_to_accuracy.cell import PARTS, Bench, schedule
from benchmarks.time_to_accuracy.page import curves, page, write_page
from benchmarks.time_to_accuracy.rows import Cell, Row, append, chosen, of_chosen, read, write
from benchmarks.time_to_accuracy.split import START, Split, search
from benchmarks.time_to_accuracy.timing import Rates
from dynadfq.runtime.errors import InvalidArgument

SETTING: dict[str, Any] = {"precision": "bfloat16", "weights": "fedcba987654"}
MEASURED: dict[str, Any] = {
    **{"iterations": 130, "steps": 160, "image_seconds": 24.0},
    **{"student_seconds": 35.0, "wall_seconds": 61.0, "held_back": 80.0, "top1": 60.0},
    **{"agreement": 70.0, "test_images": 10000, "library": "0123456789ab"},
}


def row(
    method: str = "dynadfq",
    minutes: float = 1.0,
    split: Split = START,
    seed: int = 0,
    **changed: Any,
) -> Row:
    return Row(method, minutes, **vars(split), seed=seed, **(SETTING | MEASURED | changed))


def test_the_search_changes_one_choice_after_the_other() -> None:
    scores = {
        START: 70.0,
        (more := replace(START, images=256)): 75.0,
        replace(START, images=64): 60.0,
        replace(more, share=0.2): 75.0,  # a tie changes nothing
        replace(more, share=0.6): 74.0,
        (slow := replace(more, learning_rate=3e-5)): 76.0,
        replace(more, learning_rate=3e-4): 50.0,
    }
    asked: list[Split] = []

    def score(split: Split) -> float:
        asked.append(split)
        return scores[split]

    assert search(START, ("images", "share", "learning_rate"), score) == slow
    assert set(asked) == set(scores) and len(asked) == len(scores)
    assert search(START, (), score) == START


@pytest.mark.parametrize(("minutes", "images"), [(2, 192), (4, 256), (0.01, 64)])
def test_images_grow_with_the_root_of_the_time(minutes: float, images: int) -> None:
    assert START.scaled(minutes).images == images


def test_a_schedule_decays_once_before_its_last_quarter() -> None:
    plan = schedule(40, replace(START, images=64, crop_scale=0.25))
    assert plan.total_steps(64) == 40 and plan.epoch_steps(64) == 40 // PARTS
    assert (plan.decay_every, plan.decay, plan.calibration_images) == (PARTS - 1, 0.1, 64)
    assert plan.learning_rate == START.learning_rate
    assert plan.max_gradient_norm == START.max_gradient_norm > 0
    assert plan.crop_scale == 0.25


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    assert read(path) == []
    written = [
        row(),
        row(
            seed=1,
            minutes=0.5,
            split=Split(1 / 3, 64, "pixels", 1e-3, 0.0, 1.0, "squant", "sensitivity"),
        ),
    ]
    for one in written:
        append(path, one)
    assert read(path) == written
    append(path, row(seed=2))
    assert read(path) == [*written, row(seed=2)]


def test_the_choice_follows_held_back_images_and_never_the_test_images() -> None:
    other = replace(START, images=64)
    rows = [
        row(top1=65.0),
        row(split=other, held_back=81.0, top1=50.0),
        row(seed=1, held_back=99.0),  # seed 0 alone chooses
        row(split=other, seed=1, top1=51.0),
        row(minutes=2.0, held_back=99.0),
        row("zeroq", held_back=99.0),
    ]
    assert chosen(rows, "dynadfq", 1.0) == other
    assert [one.top1 for one in of_chosen(rows, "dynadfq", 1.0)] == [50.0, 51.0]
    assert chosen(rows, "gdfq", 1.0) is None and of_chosen(rows, "gdfq", 1.0) == []


class Planned(Bench):
    """A bench whose rates are known, and which records the work in place of doing it."""

    def __init__(self, work: Path, spent: float) -> None:
        self.work, self.precision, self.spent = work, "bfloat16", spent
        self.asked: list[Any] = []

    def rates(self, method: str, allocation: str) -> Rates:
        return Rates(per_iteration=0.001, per_set=4.0, per_step=0.25, per_student=2.0)

    def images(self, method: str, count: int, iterations: int, *_: Any) -> dict[str, Any]:
        self.asked += [count, iterations]
        return {"cpu": self.spent, "wall": 0.0, "folder": str(self.work)}

    def student(self, *given: Any) -> Any:
        self.asked.append(given[2])
        raise StopIteration


@pytest.mark.parametrize(
    ("method", "spent", "work"),
    [  # 60 s, of which 24 for images: (24 - 4) / 0.001 image iterations; (36 - 2) / 0.25 steps
        ("dynadfq", 24.0, [128, 156, 136]),
        ("dynadfq", 30.0, [128, 156, 112]),  # the student gets what the images left
        ("dynadfq", 99.0, [128, 156, 4]),  # at least one step in each part
        ("gdfq", 24.0, [128, 20000, 136]),  # iterations of a generator, whatever the images
        ("real_data", 1.0, [128, 0, 136]),  # the student's share alone
    ],
)
def test_the_work_fits_into_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, spent: float, work: list[int]
) -> None:
    monkeypatch.setattr(dynadfq, "SyntheticSet", lambda folder: [0] * 128)
    bench = Planned(tmp_path, spent)
    with pytest.raises(StopIteration):
        bench.row(
            Cell(method, 1.0, **vars(replace(START, images=128, share=0.4)), seed=0, **SETTING)
        )
    assert bench.asked == work


def test_rates_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set of images takes 3 s and 0.5 s for each iteration; a student 2 s and 0.25 s a step."""
    bench = Bench(None, tmp_path, None, tmp_path, "bfloat16", 4)  # type: ignore[arg-type]
    monkeypatch.setattr(bench, "synthesize", lambda _, count, iterations, *__: 3 + iterations / 2)
    monkeypatch.setattr(bench, "student", lambda _, __, steps, *___: 2 + steps / 4)
    monkeypatch.setattr(bench, "_seconds", lambda work: work())
    assert bench.rates("dynadfq", "uniform") == (0.5 / 64, 3.0, 0.25, 2.0)
    assert bench.rates("gdfq", "uniform") == (0.5, 3.0, 0.25, 2.0)  # of the generator's batch
    monkeypatch.setattr(bench, "_seconds", None)
    assert bench.rates("gdfq", "uniform") == (0.5, 3.0, 0.25, 2.0)  # measured once


def test_every_choice_reaches_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    trained: list[dict[str, Any]] = []
    monkeypatch.setattr(dynadfq, "synthesize", lambda *_, **given: made.append(given))
    widths: list[tuple[int, ...]] = []
    sources: list[Any] = []

    def quantize(_: Any, *given: int, sensitivity_images: Any, **more: Any) -> None:
        widths.append(given)
        sources.append(sensitivity_images)

    monkeypatch.setattr(dynadfq, "quantize", quantize)
    monkeypatch.setattr(dynadfq, "finetune", lambda *_, **given: trained.append(given))
    bench = Bench(None, tmp_path, None, tmp_path, "bfloat16", 3)  # type: ignore[arg-type]
    bench.images("dynadfq", 128, 40, 3, "cosines")
    bench.images("real_data", 128, 40, 3, "pixels")
    bench.images("real_data", 128, 40, 3, "pixels")  # is there
    bench.images("gdfq", 128, 40, 3, "pixels")
    bench.images("intraq", 128, 40, 3, "pixels")
    cosines, pixels, *_ = (one["optimizer"] for one in made)
    assert (cosines.basis, cosines.schedule, cosines.iterations) == ("cosines", "linear", 40)
    assert (pixels.basis, pixels.schedule, pixels.patience) == ("pixels", "plateau", 10)
    assert made[2]["generator_batch_size"] == 64 and made[1]["data"] == "image-folder"
    assert made[3]["lowest_target"] == 0.6  # of CIFAR-100
    assert {(one["seed"], one["precision"]) for one in made} == {(3, "bfloat16")}
    split = replace(START, learning_rate=3e-4, crop_scale=0.25, rounding="squant")
    bench.student("dynadfq", None, 8, split, 3)  # type: ignore[arg-type]
    [given] = trained
    assert (given["rounding"], given["seed"], given["method"]) == ("squant", 3, "dynadfq")
    assert given["schedule"] == schedule(8, split)
    assert widths == [(3, 3)] and sources == [None]
    bench.student("dynadfq", "images", 8, replace(split, allocation="sensitivity"), 3)  # type: ignore[arg-type]
    assert sources == [None, "images"]


class Weights:
    """A network whose weights' digest begins with the name of the checkpoint."""

    def teacher(self, checkpoint: Path | None) -> Any:
        described = {"sha256": (checkpoint.name if checkpoint else "None").ljust(64, "0")}
        return type("Teacher", (), {"describe": lambda self: described})()


class Fake:
    """A bench that agrees most with a learning rate of 3e-4."""

    made: ClassVar[list[Cell]] = []

    def __init__(self, *_: Any) -> None:
        pass

    def row(self, cell: Cell) -> Row:
        self.made.append(cell)
        return Row(**vars(cell), **MEASURED | {"held_back": 1000 * cell.learning_rate})


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """The command measures nothing; its data are in ``tmp_path``."""
    monkeypatch.setattr(command, "Bench", Fake)
    monkeypatch.setattr(networks, "labelled", lambda *_: None)
    monkeypatch.setattr(command, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(networks, "NETWORKS", {"resnet20-cifar100": Weights()})
    monkeypatch.setattr(Fake, "made", [])
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    return Fake


def test_cells_are_measured_once_and_seeds_repeat_the_choice(
    tmp_path: Path, fake: type[Fake]
) -> None:
    (tmp_path / "b").touch()
    words = ["--data", str(tmp_path), "--output", str(tmp_path / "work")]
    words += ["--methods", "dynadfq", "--minutes", "1", "4", "--search", "1"]
    command.main([*words, "--seeds", "1"])
    searched = len(fake.made)
    # The start and each axis at 1 minute; 4 minutes.
    assert searched == 1 + 2 + 1 + 2 + 2 + 1 + 2 + 1 + 1 + 1
    best = replace(START.scaled(4), learning_rate=3e-4)
    setting: dict[str, Any] = {"precision": "bfloat16", "weights": "None00000000"}
    assert fake.made[-1] == Cell("dynadfq", 4.0, **vars(best), seed=0, **setting)
    command.main([*words, "--seeds", "2"])
    added = fake.made[searched:]
    assert [(cell.minutes, cell.seed) for cell in added] == [(1.0, 1), (4.0, 1)]
    assert {cell.learning_rate for cell in added} == {3e-4}
    command.main([*words, "--seeds", "2"])
    command.main(["--output", str(tmp_path / "work"), "--page"])
    command.main([*words[:2], "--output", str(tmp_path / "other"), *words[4:], "--seeds", "2"])
    assert len(fake.made) == searched + 2  # a new folder begins with the committed rows
    command.main([*words[:5], "real_data", "--minutes", "1", "--axes", "share", "rounding"])
    added = [cell for cell in fake.made[searched + 2 :] if cell.seed == 0]
    assert {cell.method for cell in added} == {"real_data"}  # whose share is not searched
    assert [cell.rounding for cell in added] == ["nearest", "squant"]
    before = len(fake.made)
    for other in (
        ["--precision", "float32"],
        ["--checkpoint", str(tmp_path / "b")],
        ["--bits", "3"],
    ):
        command.main([*words, "--seeds", "1", *other])
    again = fake.made[before:]
    others = {("float32", "None00000000"), ("bfloat16", "b00000000000"), tuple(setting.values())}
    assert {(cell.precision, cell.weights) for cell in again} == others
    assert len(again) == 3 * searched
    files = {path.name for path in (tmp_path / "work").glob("*.csv")}
    assert files == {"resnet20-cifar100-w4a4.csv", "resnet20-cifar100-w3a3.csv"}


def test_the_page_by_hand(tmp_path: Path) -> None:
    rows = [
        row(top1=60.0),
        row(seed=1, top1=62.0),
        row(split=replace(START, images=64), held_back=10.0, top1=99.0),
        row("real_data", minutes=5.0, top1=65.0, iterations=0),
    ]
    text = page(rows, "net")
    assert "| DynaDFQ | 61.00 ± 1.41 (n = 2) | – |" in text
    assert "| real data | – | 65.00 (n = 1) |" in text
    assert f"| DynaDFQ | fedcba987654 | bfloat16 | 1 | 2 | 2 | {START.share:g} |" in text
    steps = f" | {START.images} | cosines | 130 | 160 |"
    assert f"{steps} {START.learning_rate:g} | {START.max_gradient_norm:g} |" in text
    unlimited = page([row(split=replace(START, max_gradient_norm=0.0))], "net")
    assert f"{steps} {START.learning_rate:g} | none |" in unlimited
    assert "99.00" not in text
    text = page([*rows, row(weights="0" * 12, top1=50.0)], "net")
    assert "| DynaDFQ (fedcba987654, bfloat16) | 61.00 ± 1.41 (n = 2) | – |" in text
    assert "| DynaDFQ (000000000000, bfloat16) | 50.00 (n = 1) | – |" in text
    text = page([*rows, row(seed=3, library="abcdef")], "net")
    assert "of these states of the\nlibrary's code: 0123456789ab, abcdef." in text
    text = page(rows, "net")
    write_page(rows, tmp_path, "net")
    assert (tmp_path / "net.png").stat().st_size and (tmp_path / "net.md").read_text() == text


def test_the_legend_of_all_methods_is_within_the_figure() -> None:
    figure = curves([row(method, minutes) for method in command.TRAINED for minutes in (1.0, 40.0)])
    figure.canvas.draw()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(command.TRAINED)
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
    assert whole.y0 <= box.y0 and box.y1 <= whole.y1


def test_the_page_keeps_committed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REPORTS", tmp_path)
    monkeypatch.setattr(command, "write_page", lambda *_: None)
    committed = tmp_path / "resnet20-cifar100-w4a4.csv"
    write(committed, [row(), row(seed=1)])
    write(tmp_path / "old" / committed.name, [row(top1=1.0), row(seed=2)])
    command.main(["--page", "--output", str(tmp_path / "old")])
    assert read(committed) == [row(), row(seed=1), row(seed=2)]


def test_a_page_without_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REPORTS", tmp_path / "reports")
    with pytest.raises(SystemExit, match="--page: there are no rows of resnet20-cifar100-w5a5 yet"):
        command.main(["--page", "--bits", "5", "--output", str(tmp_path)])
    assert not (tmp_path / "reports").exists()


def test_a_row_that_was_cut_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REPORTS", tmp_path / "reports")
    path = tmp_path / "resnet20-cifar100-w4a4.csv"
    write(path, [row(), row(seed=1)])
    path.write_text(path.read_text()[:-30])
    with pytest.raises(SystemExit, match=r"--output: a row of .*w4a4.csv was cut off; remove it"):
        command.main(["--page", "--output", str(tmp_path)])


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    write(path := tmp_path / "rows.csv", [row()])
    path.write_text(path.read_text().replace("weights", "width"))
    with pytest.raises(InvalidArgument, match=r"--output: .*rows.csv .* differ in weights, width"):
        read(path)


def test_images_of_other_code_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(dynadfq, "synthesize", lambda *_, **given: made.append(given["folder"]))
    for state in ("a" * 16, "b" * 16, "a" * 16):
        monkeypatch.setattr(
            "benchmarks.time_to_accuracy.cell.library_digest", lambda state=state: state
        )
        bench = Bench(None, tmp_path, None, tmp_path, "bfloat16", 4)  # type: ignore[arg-type]
        bench.images("dynadfq", 64, 1, 0, "pixels")
    assert [folder.parent.name for folder in made] == ["a" * 12, "b" * 12]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes: 0 is no time above 0"),
        (["--minutes", "1", "-2"], "--minutes: -2 is no time above 0"),
        (["--minutes", "nan"], "--minutes: nan is no time above 0"),
        (["--minutes", "1", "--search", "3"], "--search: 3 is not one of --minutes"),
        (["--seeds", "0"], "--seeds: 0 given; 1 or more are needed"),
        (["--data", "nowhere"], "--data: nowhere; give a folder with val/<class>/ and, for"),
        (["--data", "."], "--data: . has no folder train/; --methods real_data needs one"),
        (["--checkpoint", "lost.pth"], "--checkpoint: there is no file lost.pth"),
    ],
)
def test_a_wrong_command_line_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    with pytest.raises(SystemExit):
        command.arguments(["--data", str(tmp_path), *words])
    assert message in capsys.readouterr().err


def test_images_of_a_budget_do_not_depend_on_the_other_budgets(
    tmp_path: Path, fake: type[Fake]
) -> None:
    counts = []
    for minutes, searched in (
        (["20"], []),
        (["1", "20"], []),
        (["1", "2", "5", "10", "20"], []),
        (["5", "20"], ["5", "--axes", "learning_rate"]),
    ):
        output = str(tmp_path / "-".join(minutes))
        words = ["--data", str(tmp_path), "--output", output, "--methods", "dynadfq"]
        command.main([*words, "--seeds", "1", "--minutes", *minutes, "--search", *searched])
        counts.append(fake.made[-1].images)
    assert counts == [START.scaled(20).images] * 4
    assert fake.made[-1].learning_rate == 3e-4  # the one that was found under 5 minutes


def test_published_weights_keep_their_own_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(dynadfq, "load_teacher", lambda *_, **given: asked.append(given))
    network = networks.NETWORKS["resnet20-cifar100"]
    network.teacher(None)
    network.teacher(Path("own.pth"))
    assert asked == [{"pretrained": True}, {"pretrained": False, **networks.CIFAR100}]


def test_a_folder_of_images_is_needed_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.arguments([])
    assert "--data: nothing given; give a folder" in capsys.readouterr().err
    assert command.arguments(["--page"]).page
