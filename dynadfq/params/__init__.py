"""``params.yaml`` as types: ``load(view)`` for a DVC stage, ``read(path)`` for the whole file."""

from dynadfq.params.errors import ParameterError
from dynadfq.params.loading import examine, read
from dynadfq.params.sections import Params
from dynadfq.params.view import View, load

__all__ = ["ParameterError", "Params", "View", "examine", "load", "read"]
