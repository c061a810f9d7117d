"""Settings of the bit selector's network, and the widths that it chooses among."""

from __future__ import annotations

from dynadfq.quant.width_config import Widths
from dynadfq.runtime.config import MAX_WIDTH, PAPER, Config, setting

DYNAMIC_QUANT = "DynamicQuant (Liu et al., CVPR 2022), released code"


class SelectorShape(Config):
    """The network that gives each image, at each site, one of the candidate widths."""

    pool: int = setting(
        8,
        "side to which the selector's input is average-pooled",
        unit="pixels",
        source=DYNAMIC_QUANT,
        ge=1,
        le=64,
    )
    hidden: int = setting(
        64, "width of the hidden layer", unit="features", source=DYNAMIC_QUANT, ge=1, le=MAX_WIDTH
    )
    dropout: float = setting(
        0.2,
        "dropout before the last layer, while fine-tuning",
        unit="fraction",
        source=DYNAMIC_QUANT,
        ge=0,
        le=0.9,
    )
    initial_bias: float = setting(
        1.0,
        "initial bias of the target width's logit, the others' being 0: every image starts at "
        "the target",
        source=f"{PAPER}, Sec. 4.1 (highest probability); value from its first author's CADyQ",
        ge=0,
        le=100,
    )


class CandidatesConfig(SelectorShape):
    """The candidate widths, and the network that chooses among them."""

    candidates: Widths = setting(
        (3, 4, 5),
        "candidate widths of the dynamic student's activations",
        unit="bits",
        source=f"{PAPER}, Sec. 4.1 and appendix B",
        allowed="a list of two or more whole numbers in 2 … 8, ascending",
        items="2 … 8",
        min_length=2,
        strict=False,
    )
