"""Measurement of a quantized file: agreement with the float network, accuracy, size and time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynadfq.data.config import IMAGE_FOLDER
from dynadfq.data.labelled import LabelledSet
from dynadfq.data.loading import load
from dynadfq.evaluation.evaluate import evaluate, percent_equal
from dynadfq.export.qdq_notes import QdqExport, notes_path
from dynadfq.quant.artifact import read_facts
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import model_card
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

BATCH = 32
HEAD = ("", "float", "quantized")
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Measured:
    """Results of a quantized network beside those of the float one.

    agreement: percent of the held-back images with the float network's class.
    images: number of these images.
    synthetic: whether they are synthetic; noise otherwise.
    top1, float_top1: percent of the labelled images; None without any.
    labelled: number of labelled images.
    data: their folder.
    classes: how its classes were matched with the network's; None without any.
    export: the file with its checks.
    float_bytes: size of the float weights.
    """

    agreement: float
    images: int
    synthetic: bool
    top1: float | None
    float_top1: float | None
    labelled: int
    data: str
    classes: str | None
    export: QdqExport
    float_bytes: int

    def rows(self) -> list[Row]:
        """Return the table: what was measured, the float network, the quantized one."""
        kind = "held-back synthetic" if self.synthetic else "noise"
        rows = [(f"same class, {self.images} {kind} images", "", f"{self.agreement:.1f} %")]
        if self.top1 is not None:
            rows.append(
                (
                    f"top-1, {self.labelled} images of {self.data}",
                    f"{self.float_top1:.2f} %",
                    f"{self.top1:.2f} %",
                )
            )
        if self.classes is not None:
            rows.append((f"classes of {self.data}", "", self.classes))
        rows.append(("size", _megabytes(self.float_bytes), _megabytes(self.export.size)))
        rows += [
            (
                f"time per image, batch {time['batch']:.0f}, one thread",
                f"{time['float_ms']:.2f} ms",
                f"{time['file_ms']:.2f} ms",
            )
            for time in self.export.times
        ]
        return rows


def labelled_images(
    teacher: Teacher, folder: str | Path, classes: str | Path | None, scratch: Path
) -> LabelledSet:
    """Open a folder of labelled images for a network.

    Args:
        teacher: the network.
        folder: ``<class>/<image>``.
        classes: file that says which class each folder is; None matches their names.
        scratch: where decoded images are kept.
    """
    return load(
        IMAGE_FOLDER,
        folder,
        preprocessing=teacher.preprocessing,
        class_names=teacher.class_names,
        class_file=None if classes is None else Path(classes),
        scratch=scratch,
    )


def measure(
    student: Student,
    teacher: Teacher,
    held_back: SyntheticSet,
    synthetic: bool,
    labelled: LabelledSet | None,
    data: str | Path | None,
    export: QdqExport,
) -> Measured:
    """Measure a student beside its teacher; the file was checked to compute what it computes.

    Args:
        student: the student.
        teacher: the float network.
        held_back: images that it was not made on.
        synthetic: whether they are synthetic; noise otherwise.
        labelled: labelled images, if any.
        data: their folder.
        export: the file.
    """
    batches = ((batch.images, None) for batch in held_back.batches(BATCH))
    found = evaluate(student, batches, teacher)
    assert found.teacher is not None
    agreement = percent_equal(found.predictions, found.teacher.predictions)
    top1 = float_top1 = classes = None
    if labelled is not None:
        on_data = evaluate(student, labelled.batches(BATCH), teacher)
        assert on_data.teacher is not None
        top1 = on_data.top1
        float_top1 = percent_equal(on_data.teacher.predictions, labelled.labels)
        classes = None if labelled.classes is None else labelled.classes.origin
    return Measured(
        agreement,
        len(held_back),
        synthetic,
        top1,
        float_top1,
        0 if labelled is None else len(labelled),
        str(data),
        classes,
        export,
        len(teacher.serialized()),
    )


def card(student: Path, measured: Measured, weights: str | None) -> str:
    """Return the model card of a file: that of its student with what was measured.

    Args:
        student: folder of the student.
        measured: the results.
        weights: the file of the student's weights, from the card's folder; None if it is not kept.
    """
    file = measured.export.path
    programs = (
        f"`{notes_path(file).name}` says, for programs, how images are prepared, what the network "
        "was made from and what the checks found."
    )
    whole = model_card(read_facts(student).model_dump(mode="json"), None, programs, weights)
    facts, _, _ = whole.partition("## Accuracy")
    lines = [f"| {' | '.join(row)} |" for row in (HEAD, ("---", "---:", "---:"), *measured.rows())]
    remarks = [f"- {line}" for line in measured.export.remarks()]
    return "\n".join(
        [
            f"{facts}## Accuracy, size and time",
            "",
            *lines,
            "",
            f"`{file.name}` gives {measured.export.agreement.same_class} of "
            f"{measured.export.agreement.images} check images the class that the student gives "
            "them.",
            *(["", *remarks] if remarks else []),
            "",
        ]
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
