"""Values that settings of losses take, without torch."""

from __future__ import annotations

from typing import Literal

Form = Literal["penalty", "constraint"]
Reduction = Literal["batchmean", "elementmean"]
SlackGranularity = Literal["layer", "channel"]
