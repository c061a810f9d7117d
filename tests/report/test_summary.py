from __future__ import annotations

from dynadfq.report.summary import summary

COST = {"bit_flops_percent": 2.5}


def test_the_result_of_labelled_images_is_a_line_for_each_network() -> None:
    metrics = {
        "teacher": {"top1": 98.0, "bit_flops_percent": 100.0},
        "fixed": {"top1": 97.5, "bit_flops_percent": 2.55},
        "control": {"top1": 96.0} | COST,
        "ceiling": {"top1": 98.5} | COST,
        "student": {"top1": 97.0} | COST,
    }
    assert summary(metrics).splitlines() == [
        "teacher   98.00 % top-1 at 100.00 % of the float model's bit-FLOPs",
        "fixed     97.50 % top-1 at   2.55 % of the float model's bit-FLOPs",
        "control   96.00 % top-1 at   2.50 % of the float model's bit-FLOPs",
        "student   97.00 % top-1 at   2.50 % of the float model's bit-FLOPs",
        "ceiling   98.50 % top-1 at   2.50 % of the float model's bit-FLOPs",
        "Report: reports/index.html",
    ]


def test_without_labels_it_is_the_agreement_with_the_teacher() -> None:
    agrees = {"agreement": 90.0} | COST
    metrics = {"teacher": {}, "fixed": agrees, "control": agrees, "student": agrees}
    lines = summary(metrics).splitlines()
    assert len(lines) == 4
    assert all("90.00 % agreement with the teacher at   2.50 %" in line for line in lines[:3])
