"""The ``quantization`` section: widths, activation ranges and the selector of bit-widths."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dynadfq.runtime.config import LINEAGE, PAPER, Config, setting

Bits = Annotated[int, Field(ge=2, le=8)]


def _ascending(widths: tuple[int, ...]) -> tuple[int, ...]:
    if any(low >= high for low, high in pairwise(widths)):
        raise ValueError("not ascending without repetition")
    return widths


Widths = Annotated[tuple[Bits, ...], AfterValidator(_ascending)]


class Ranges(Config):
    """The clipping range [low, high] of each activation site: one range for all candidate
    widths.
    """

    observer: Literal["max", "quantile", "mse", "median_max"] = setting(
        "median_max",
        "range of a batch: its extremes (max), its quantiles, the range of least squared error, "
        "or the median of its images' extremes",
        source=f"dynadfq; max: {LINEAGE}",
    )
    quantile: float = setting(
        0.999,
        "share of a site's values up to each end of its range (observer: quantile)",
        unit="fraction",
        gt=0,
        le=1,
    )
    average: Literal["mean", "ema", "legacy_ema"] = setting(
        "mean",
        "how the ranges of batches become one: their mean, an exponential average, or the latter as released code has "
        "it, which overshoots a thousandfold in the first 150 batches",
        source=f"dynadfq; legacy_ema: {LINEAGE}",
    )
    learned: bool = setting(
        True,
        "fine-tuning moves the ranges by gradient; false keeps the calibrated ones",
        source=f"{PAPER}, Sec. 3.1 and Eq. 2; false: {LINEAGE}",
    )
    learning_rate: float = setting(
        1e-5,
        "initial learning rate of the ranges, decayed as the weights' is",
        source="the weights' rate; the paper gives none",
        gt=0,
    )


class Selector(Config):
    """The network that gives each image, at each site, one of the candidate widths."""

    pool: int = setting(
        8,
        "side to which the selector's input is average-pooled",
        unit="pixels",
        source="DynamicQuant (Liu et al., CVPR 2022), released code",
        ge=1,
    )
    hidden: int = setting(
        64, "width of the hidden layer", unit="features", source="DynamicQuant, released code", ge=1
    )
    dropout: float = setting(
        0.2,
        "dropout before the last layer, while fine-tuning",
        unit="fraction",
        source="DynamicQuant, released code",
        ge=0,
        le=0.9,
    )
    initial_bias: float = setting(
        1.0,
        "initial bias of the target width's logit, the others' being 0: every image starts at the target",
        source=f"{PAPER}, Sec. 4.1 (highest probability); value from its first author's CADyQ",
        ge=0,
    )
    learning_rate: float = setting(
        1e-3,
        "initial learning rate of the selector, decayed as the weights' is",
        source=f"{PAPER}, Sec. 4.1 (CIFAR)",
        gt=0,
    )
    bit_weight: float = setting(
        100.0,
        "γ, weight of the penalty; for a constraint, the curvature of its quadratic part",
        source=f"{PAPER}, Eq. 11; value in Sec. 4.1",
        ge=0,
    )
    warm_up_images: int = setting(
        0,
        "synthetic images on which the sensitivity of every site to every width is measured, to teach the selector "
        "before fine-tuning; 0 is off",
        unit="images",
        source="dynadfq",
        ge=0,
    )
    budget: Literal["penalty", "constraint"] = setting(
        "penalty",
        "how the target binds: Eq. 10's penalty on each image above it, or a multiplier that holds the mean at it",
        source=f"penalty: {PAPER}, Eq. 10; constraint: dynadfq",
    )


class Quantization(Config):
    """The student's numbers: integer widths of weights and activations, and where activations are
    quantized.
    """

    weight_bits: Bits = setting(
        4,
        "width of every weight",
        unit="bits",
        source=f"{PAPER}, appendix (4-bit models)",
        ge=2,
        le=8,
    )
    weight_granularity: Literal["channel", "tensor"] = setting(
        "channel",
        "what shares a scale and zero point: the weights of an output channel, or all weights of a layer",
        source=f"channel: {LINEAGE}; tensor: DFQ, and DSG's table 3",
    )
    rounding: Literal["nearest", "squant", "adaround"] = setting(
        "nearest",
        "how weights are rounded before fine-tuning: to the nearest level, or so that errors cancel in each channel "
        "(squant), or as is learned layer by layer from the synthetic images (adaround); the last two fix the grid",
        source=f"nearest: {LINEAGE}; squant: arXiv 2202.07471; adaround: arXiv 2004.10568",
    )
    target_bits: Bits = setting(
        4,
        "uniform width whose bit-FLOPs are the budget; width of every activation of the fixed student",
        unit="bits",
        source=f"{PAPER}, Eq. 10: the 4-bit or 5-bit model",
        ge=2,
        le=8,
    )
    activation_bits: Widths = setting(
        (3, 4, 5),
        "candidate widths of the dynamic student's activations",
        unit="bits",
        source=f"{PAPER}, Sec. 4.1 and appendix B",
        allowed="a list of two or more whole numbers in 2 … 8, ascending",
        items="2 … 8",
        min_length=2,
        strict=False,
    )
    placement: Literal["relu_output", "layer_input"] = setting(
        "relu_output",
        "activations that are quantized: ReLU outputs, or every input of a convolution or linear layer",
        source=f"relu_output: {LINEAGE}",
    )
    ranges: Ranges = Ranges()
    selector: Selector = Selector()
