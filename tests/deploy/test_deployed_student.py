"""The student of a deployment: how its activation ranges are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynadfq.deploy.efforts import Effort
from dynadfq.deploy.student import make_student, scheme_of
from dynadfq.deploy.work import Work
from dynadfq.ptq.calibration import RangeOfBatch, calibrate, extremes, least_squared_error
from dynadfq.quant.build import build_student
from dynadfq.quant.model import Student
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


def ranges(student: Student) -> Tensor:
    """(S, 2) bounds."""
    return torch.tensor([site.ranges[0] for site in student.sites])


@pytest.mark.filterwarnings("ignore:.* beyond the range of image files")
@pytest.mark.parametrize(
    ("bits", "rule", "other"),
    [(8, extremes, least_squared_error), (7, least_squared_error, extremes)],
)
def test_ranges_clip_nothing_at_8_bits_and_are_those_of_least_error_below(
    teacher: Teacher,
    synthetic: SyntheticSet,
    tmp_path: Path,
    bits: int,
    rule: RangeOfBatch,
    other: RangeOfBatch,
) -> None:
    scheme, effort = scheme_of(8, bits), Effort(24, 3, 8, "squant", None)
    work = Work(tmp_path, "work")
    found = make_student(teacher, synthetic, effort, scheme, False, 0, work)
    images = synthetic.take(torch.arange(24)).images
    expected = build_student(teacher, scheme)
    calibrate(expected, [images], rule)
    assert torch.equal(ranges(found), ranges(expected))
    calibrate(expected, [images], other)
    assert not torch.equal(ranges(found), ranges(expected))
