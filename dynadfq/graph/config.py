"""Values that settings of the network's description take, without torch."""

from __future__ import annotations

from typing import Literal

Placement = Literal["relu_output", "layer_input"]
SiteSet = Placement | Literal["integer", "none"]
FLOAT_BITS = 32  # width of a float32 value
