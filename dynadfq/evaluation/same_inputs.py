"""Whether two networks read the same images and number the same classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from dynadfq.data.classes import are_numbers
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument, shown
from dynadfq.teacher.teacher import Teacher


def require_same_inputs(teacher: Teacher, model: Student | Teacher) -> None:
    """Check that a teacher reads the images of a model, and numbers the classes as it does.

    Names are compared where both networks have any.

    Raises:
        InvalidArgument: it does not; the error shows both values of everything that differs.
    """
    if differences := "; ".join(_differences(teacher, model)):
        raise InvalidArgument(
            "teacher", f"{differences}; give the float network that the model was made from"
        )


def _differences(teacher: Teacher, model: Student | Teacher) -> Iterator[str]:
    """What differs, with the teacher's value and the model's."""
    known = model.description if isinstance(model, Student) else model.arguments()
    if teacher.num_classes != known["num_classes"]:
        yield f"it has {teacher.num_classes} classes and the model {known['num_classes']}"
    for name in (field.name for field in fields(Preprocessing)):
        theirs, own = getattr(teacher.preprocessing, name), getattr(model.preprocessing, name)
        if theirs != own:
            yield f"its {name} is {shown(theirs)} and the model's {shown(own)}"
    names, others = teacher.class_names, known["class_names"]
    if are_numbers(names) or are_numbers(others):
        return
    for number, (theirs, own) in enumerate(zip(names, others, strict=False)):
        if theirs != own:
            yield f"its class {number} is {shown(theirs)} and the model's {shown(own)}"
            return
