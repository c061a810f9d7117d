"""Shards made by several ranks are those of one."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from ranks import run_ranks

from dynadfq.methods.base import MethodContext
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.methods.gdfq import GDFQ
from dynadfq.runtime import distributed
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis import shards, synthesize
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.pixels import PixelSource
from dynadfq.teacher.similarity import class_similarity

OPTIMIZER = PixelOptimizerConfig(iterations=2)


@pytest.fixture
def make(teacher, tmp_path):
    """Make 11 images in shards of 3, in as many ranks: the set's files by name, and the shards each
    rank made."""

    def run(recipe, ranks, scratch=True):
        place = tmp_path / f"{ranks}-{scratch}"
        made = []

        def work():
            source = recipe.source(teacher, OPTIMIZER)
            make_one, source.make = (
                source.make,
                lambda *given: made.append(given[0]) or make_one(*given),
            )
            unfinished = Scratch(place / "scratch" if scratch else None)
            images = synthesize.synthesize_set(source, 11, 3, 0, place / "set", unfinished)
            assert not (place / "scratch").exists()
            return {
                path.name: sha256(path.read_bytes()).hexdigest() for path in images.folder.iterdir()
            }, made

        return run_ranks(ranks, work)

    return run


@pytest.fixture
def recipe(teacher):
    return DynaDFQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0))


def test_one_two_and_three_ranks_make_the_same_bytes(make, recipe):
    [(alone, made)] = make(recipe, 1)
    assert len(alone) == 5 and made == [3, 3, 3, 2]
    assert make(recipe, 2) == [(alone, [3, 3]), (alone, [3, 2])]
    assert make(recipe, 3) == [(alone, [3, 2]), (alone, [3]), (alone, [3])]
    assert make(recipe, 2, scratch=False) == [(alone, [3, 3]), (alone, [3, 2])]


def test_shards_that_build_on_each_other_are_made_by_the_first_rank(make, recipe):
    memory = []
    sequential = replace(recipe, remember=memory.append)
    [(alone, _)] = make(sequential, 1)
    assert make(sequential, 2) == [(alone, [3, 3, 3, 2]), (alone, [])]


def test_the_first_rank_trains_the_generator_for_all(make, teacher):
    recipe = GDFQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0))
    [(alone, _)] = make(recipe, 1)
    assert make(recipe, 2) == [(alone, [3, 3]), (alone, [3, 2])]
    assert "generator.safetensors" in alone


def test_a_rank_that_sees_another_folder_is_told(make, recipe, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "VISIBLE_WITHIN", 0.0)

    def work():
        place = tmp_path / f"of-{distributed.rank()}"
        source = PixelSource(teacher, recipe, OPTIMIZER)
        try:
            synthesize.synthesize_set(source, 6, 3, 0, place, Scratch(None))
        except (FileNotFoundError, distributed.RankUnreachable) as error:
            return str(error)

    first, _ = run_ranks(2, work)
    assert first.endswith(
        "shard-00001.safetensors was made by another rank and does not appear; give all ranks "
        "the same folder"
    )


def test_each_rank_logs_its_own_lines(capsys):
    def work():
        with Progress("synthesize", 1) as progress:
            progress.step(total=1.0)
        return capsys.readouterr().err

    first, second = run_ranks(2, work)
    line = {"stage": "synthesize", "step": 1, "of": 1, "seconds_left": 0, "synthesize/total": 1.0}
    assert json.loads(first) == {"rank": 0, **line} and json.loads(second) == {"rank": 1, **line}
    with Progress("synthesize", 1) as progress:
        progress.step(total=1.0)
    assert json.loads(capsys.readouterr().err) == line
