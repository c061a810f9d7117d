"""The methods by name. A new one is its import, and a line in ``METHODS``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dynadfq.methods.adadfq import AdaDFQ
from dynadfq.methods.adaround import AdaRound
from dynadfq.methods.base import Method
from dynadfq.methods.deepinversion import DeepInversion
from dynadfq.methods.dfq import DFQ
from dynadfq.methods.dsg import DSG
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.methods.gdfq import GDFQ
from dynadfq.methods.gznq import GZNQ
from dynadfq.methods.hast import HAST
from dynadfq.methods.intraq import IntraQ
from dynadfq.methods.qimera import Qimera
from dynadfq.methods.real_data import RealData
from dynadfq.methods.squant import SQuant
from dynadfq.methods.synq import SynQ
from dynadfq.methods.zeroq import ZeroQ
from dynadfq.teacher.recording import NoBatchNormStatistics

METHODS: dict[str, type[Method]] = {
    "dynadfq": DynaDFQ,
    "adadfq": AdaDFQ,
    "adaround": AdaRound,
    "deepinversion": DeepInversion,
    "dfq": DFQ,
    "dsg": DSG,
    "gdfq": GDFQ,
    "gznq": GZNQ,
    "hast": HAST,
    "intraq": IntraQ,
    "qimera": Qimera,
    "real_data": RealData,
    "squant": SQuant,
    "synq": SynQ,
    "zeroq": ZeroQ,
}


def without_batch_norm() -> str:
    """The methods that need no BatchNorm statistics of the teacher, each with the settings that it
    then needs.
    """
    words = []
    for name, method in METHODS.items():
        if method.without_batch_norm is not None:
            settings = method.without_batch_norm.items()
            needed = ", ".join(f"method.{key}: {value}" for key, value in settings)
            words.append(f"{name} ({needed})" if needed else name)
    return ", ".join(words)


@contextmanager
def suggest_other_methods() -> Iterator[None]:
    """Add to an error about missing BatchNorm statistics which methods need none.

    Raises:
        NoBatchNormStatistics: the same error, with the suggestion.
    """
    try:
        yield
    except NoBatchNormStatistics as error:
        raise NoBatchNormStatistics(
            f"{error}; methods that need none: {without_batch_norm()}"
        ) from error
