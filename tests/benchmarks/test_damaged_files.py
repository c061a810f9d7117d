"""A sample of the damage trials: every answer is one sentence that names a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.robustness.damages import Damage, damages
from benchmarks.robustness.files import READERS, make_artifacts, run_trial

EVERY = 23  # of about a thousand trials


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    make_artifacts(folder)
    return folder


def test_a_sample_of_damages_is_answered_in_a_sentence(artifacts: Path) -> None:
    found = list(damages(artifacts, seed=0))
    assert {damage.file.split("/")[0] for damage in found} == set(READERS)
    trials = [run_trial(artifacts, damage) for damage in found[::EVERY]]
    assert [trial for trial in trials if trial.outcome != "sentence"] == []


def test_undamaged_artifacts_are_accepted(artifacts: Path) -> None:
    for name in READERS:
        unchanged = Damage(f"{name}/any", "none", lambda folder: None)
        assert run_trial(artifacts, unchanged).outcome == "accepted"
