"""The methods by name. A new one is its import, a member of ``Method``, a name and a line in ``Methods``."""

from __future__ import annotations

from typing import Literal, cast

from dynadfq.methods.deepinversion import DeepInversion
from dynadfq.methods.dsg import DSG
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.methods.intraq import IntraQ
from dynadfq.methods.zeroq import ZeroQ
from dynadfq.schema import Section, is_section, setting

Method = DynaDFQ | DeepInversion | DSG | IntraQ | ZeroQ


class Methods(Section):
    """Which method makes the images and teaches the student; the other methods' keys stay in the file, unused."""

    name: Literal["dynadfq", "deepinversion", "dsg", "intraq", "zeroq"] = setting("dynadfq", "the method in use")
    dynadfq: DynaDFQ = DynaDFQ()
    deepinversion: DeepInversion = DeepInversion()
    dsg: DSG = DSG()
    intraq: IntraQ = IntraQ()
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
