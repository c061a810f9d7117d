"""Arguments that public functions share: a teacher, a method and its settings."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, cast

from dynadfq.methods import METHODS
from dynadfq.runtime.config import Config
from dynadfq.runtime.errors import InvalidArgument, did_you_mean, require_choice
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.recipe import StudentRecipe

METHOD = "dynadfq"  # where no other is named


def require_teacher(value: object) -> None:
    """Check that an argument is a teacher.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(value, Teacher):
        raise InvalidArgument(
            "teacher",
            f"must be a dynadfq.Teacher; got {type(value).__name__}; wrap a network of your own by "
            "dynadfq.Teacher(module, …)",
        )


def settings_of(
    function: Callable[..., Any], method: str, part: str, hyperparameters: dict[str, Any]
) -> Any:
    """Return the method's settings for "images" or "student".

    A keyword may be a misspelt argument of the function as well.
    """
    require_choice("method", method, METHODS)
    kind = cast(type[Config], METHODS[method].model_fields[part].annotation)
    known = [*kind.model_fields, *signature(function).parameters]
    for name in hyperparameters:
        if name not in kind.model_fields:
            raise InvalidArgument(name, f"unknown{did_you_mean(name, known)}")
    return kind(**hyperparameters)


def student_recipe(
    function: Callable[..., Any], method: str, hyperparameters: dict[str, Any]
) -> StudentRecipe:
    """Return how the method prepares and trains its student, with these hyperparameters."""
    recipe: StudentRecipe = settings_of(function, method, "student", hyperparameters).recipe()
    return recipe
