"""From parameters to the library's own types, for the two stages that fine-tune."""

from __future__ import annotations

from dynadfq import params
from dynadfq.losses.budget import Budget
from dynadfq.ptq.calibration import AVERAGES, observer
from dynadfq.ptq.preparation import rounding_of
from dynadfq.quant.insert import Scheme, SelectorShape
from dynadfq.training.prepare import Calibration, PreparationConfig
from dynadfq.training.schedule import Schedule
from dynadfq.training.selector_warm_up import SelectorWarmUp


def scheme_of(p: params.StageParams, fixed: bool) -> Scheme:
    """How the student is quantized; the fixed one has the target width alone."""
    q = p.quantization
    common = {
        "weight_bits": q.weight_bits,
        "weight_granularity": q.weight_granularity,
        "target_bits": q.target_bits,
        "placement": q.placement,
        "learned_ranges": q.ranges.learned,
    }
    if fixed:
        return Scheme(activation_bits=(q.target_bits,), **common)
    shape = SelectorShape(
        q.selector.pool, q.selector.hidden, q.selector.dropout, q.selector.initial_bias
    )
    return Scheme(activation_bits=tuple(q.activation_bits), selector=shape, **common)


def schedule_of(p: params.StageParams, fixed: bool) -> Schedule:
    """Steps and rates of the fine-tuning."""
    f = p.finetune.model_dump(exclude={"calibration_images"})
    selector_rate = 0.0 if fixed else p.quantization.selector.learning_rate
    return Schedule(
        **f,
        range_learning_rate=p.quantization.ranges.learning_rate,
        selector_learning_rate=selector_rate,
    )


def budget_of(p: params.StageParams, fixed: bool) -> Budget:
    """How the bit-FLOPs target binds; a student of fixed width has nothing to choose."""
    return (
        Budget()
        if fixed
        else Budget(p.quantization.selector.budget, p.quantization.selector.bit_weight)
    )


def preparation_config_of(p: params.StageParams, fixed: bool) -> PreparationConfig:
    """What the student is given before it learns; the fixed one has no selector that needs a
    warm-up.
    """
    ranges = p.quantization.ranges
    rule = observer(ranges.observer, p.quantization.target_bits, ranges.quantile)
    selector_warm_up = (
        SelectorWarmUp() if fixed else SelectorWarmUp(p.quantization.selector.warm_up_images)
    )
    calibration = Calibration(rule, p.finetune.calibration_images, AVERAGES[ranges.average])
    return PreparationConfig(calibration, rounding_of(p.quantization.rounding), selector_warm_up)
