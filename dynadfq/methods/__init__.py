"""The methods by name. A new one is its import, a member of ``Method``, a name and a line in ``Methods``."""

from __future__ import annotations

from typing import Literal, cast

from dynadfq.methods.adadfq import AdaDFQ
from dynadfq.methods.adaround import AdaRound
from dynadfq.methods.deepinversion import DeepInversion
from dynadfq.methods.dfq import DFQ
from dynadfq.methods.dsg import DSG
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.methods.gdfq import GDFQ
from dynadfq.methods.gznq import GZNQ
from dynadfq.methods.hast import HAST
from dynadfq.methods.intraq import IntraQ
from dynadfq.methods.qimera import Qimera
from dynadfq.methods.squant import SQuant
from dynadfq.methods.synq import SynQ
from dynadfq.methods.zeroq import ZeroQ
from dynadfq.schema import Section, is_section, setting

Method = (
    DynaDFQ
    | AdaDFQ
    | AdaRound
    | DeepInversion
    | DFQ
    | DSG
    | GDFQ
    | GZNQ
    | HAST
    | IntraQ
    | Qimera
    | SQuant
    | SynQ
    | ZeroQ
)


class Methods(Section):
    """Which method makes the images and teaches the student; the other methods' keys stay in the file, unused."""

    name: Literal[
        "dynadfq",
        "adadfq",
        "adaround",
        "deepinversion",
        "dfq",
        "dsg",
        "gdfq",
        "gznq",
        "hast",
        "intraq",
        "qimera",
        "squant",
        "synq",
        "zeroq",
    ] = setting("dynadfq", "the method in use")
    dynadfq: DynaDFQ = DynaDFQ()
    adadfq: AdaDFQ = AdaDFQ()
    adaround: AdaRound = AdaRound()
    deepinversion: DeepInversion = DeepInversion()
    dfq: DFQ = DFQ()
    dsg: DSG = DSG()
    gdfq: GDFQ = GDFQ()
    gznq: GZNQ = GZNQ()
    hast: HAST = HAST()
    intraq: IntraQ = IntraQ()
    qimera: Qimera = Qimera()
    squant: SQuant = SQuant()
    synq: SynQ = SynQ()
    zeroq: ZeroQ = ZeroQ()

    @property
    def active(self) -> Method:
        """The hyperparameters of the method in use."""
        return cast(Method, getattr(self, self.name))


METHODS: dict[str, type[Method]] = {
    name: cast(type[Method], field.annotation)
    for name, field in Methods.model_fields.items()
    if is_section(field.annotation)
}
