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
    kind = _settings_kind(method, part)
    known = [*kind.model_fields, *signature(function).parameters]
    for name in hyperparameters:
        if name not in kind.model_fields:
            raise InvalidArgument(name, f"unknown{did_you_mean(name, known)}")
    return kind(**hyperparameters)


def of_method_and_others(
    method: str, part: str, arguments: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide a function's arguments into those that are settings of the method, and the others.

    None is an argument that was left out, and is in neither.
    """
    fields = _settings_kind(method, part).model_fields
    given = {name: value for name, value in arguments.items() if value is not None}
    own = {name: value for name, value in given.items() if name in fields}
    return own, {name: value for name, value in given.items() if name not in fields}


def _settings_kind(method: str, part: str) -> type[Config]:
    require_choice("method", method, METHODS)
    return cast(type[Config], METHODS[method].model_fields[part].annotation)


def student_recipe(
    function: Callable[..., Any], method: str, hyperparameters: dict[str, Any]
) -> StudentRecipe:
    """Return how the method prepares and trains its student, with these hyperparameters."""
    recipe: StudentRecipe = settings_of(function, method, "student", hyperparameters).recipe()
    return recipe
