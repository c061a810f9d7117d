"""Arguments that public functions share, and arguments that have no effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadfq.api import finetune, quantize, quantize_model, synthesize
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Call = Callable[[Any], object]


def weights(student: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


@pytest.mark.parametrize("seed", [np.int64(3), np.array(3), torch.tensor(3)], ids=repr)
def test_equal_seeds_of_any_library_give_equal_results(
    teacher: Teacher, synthetic: SyntheticSet, seed: Any
) -> None:
    def images(seed: Any) -> Tensor:
        made = synthesize(teacher, num_images=4, iterations=1, batch_size=4, seed=seed)
        return made.take(torch.arange(4)).images

    def student(seed: Any) -> Tensor:
        made = quantize(teacher, seed=seed)
        finetune(made, teacher, synthetic, steps=1, batch_size=8, learning_rate=0.1, seed=seed)
        return weights(made)

    for result in (images, student):
        assert torch.equal(result(seed), result(3))
        assert not torch.equal(result(seed), result(4))


@pytest.mark.parametrize("seed", [0.0, True, None, "0", -1, 2**63], ids=repr)
def test_other_seeds_are_refused(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, seed: Any
) -> None:
    calls: list[Call] = [
        lambda seed: synthesize(teacher, num_images=4, iterations=1, seed=seed),
        lambda seed: quantize(teacher, seed=seed),
        lambda seed: finetune(quantize(teacher), teacher, synthetic, seed=seed),
        lambda seed: quantize_model(teacher, tmp_path / "int8.onnx", seed=seed),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match=r"^seed: must be (a whole number|in 0 … 9223)"):
            call(seed)
    assert not list(tmp_path.iterdir()), "refused before any work"
