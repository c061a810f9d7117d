"""SIGKILL before each write in turn: what is left is continued, and the result is the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from finetuning import SCHEDULE, changed, finetune, state
from interrupts import files

from dynadfq.methods import dynadfq, gdfq
from dynadfq.methods.base import MethodContext
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity


def killed_before_write(number: int, work: Callable[[], object]) -> bool:
    """Do the work in a fork of this process, killed before it puts file ``number`` in place; return
    whether it came so far."""

    def child() -> None:
        original, left = os.replace, iter(range(number))

        def replace(source: Path, target: Path) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            original(source, target)

        os.replace = replace  # type: ignore[assignment]
        work()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.parametrize("kind", ["pixels", "generator"])
def test_images(teacher, tmp_path, kind):
    def make(name):
        if kind == "generator":
            recipe = gdfq.Images(generator_batch_size=8, latent_features=10).generator(teacher)
        else:
            context = MethodContext(teacher, class_similarity(teacher), 0)
            recipe = dynadfq.Images().recipe(context)
        source = recipe.source(teacher, PixelOptimizerConfig(iterations=2))
        place = tmp_path / name
        synthesize_set(source, 8, 4, 0, place / "set", Scratch(place / "scratch"))
        return files(place / "set")

    expected = make("whole")
    for number in count():
        killed = killed_before_write(number, lambda name=str(number): make(name))
        assert make(str(number)) == expected
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == ["set"]
        if not killed:
            break
    assert number > len(expected)  # every file of the set, and unfinished ones


def test_fine_tuning(make_student, teacher, synthetic, tmp_path):
    schedule = changed(SCHEDULE, epochs=2)

    def train(folder):
        student = make_student()
        finetune(student, teacher, synthetic, dynadfq.Student().recipe(), schedule, scratch=folder)
        return state(student)

    expected = train(None)
    for number in range(3):
        killed = killed_before_write(number, lambda n=number: train(tmp_path / str(n)))
        assert killed == (number < 2)  # one state for each epoch
        assert train(tmp_path / str(number)) == expected
