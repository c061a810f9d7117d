"""The gate after synthesis: whether the teacher recognizes the images made for one class."""

from __future__ import annotations

from dynadfq.synthesis.dataset import SyntheticSet

GATE = 90.0  # percent


def gate_message(images: SyntheticSet) -> str:
    """Return one line on how many images the teacher recognizes; below the gate, a warning."""
    share = images.one_hot_recognized
    if share is None:
        return "synthesize: no image was made for a single class, so that no gate applies"
    found = f"the teacher recognizes {share:.1f} % of the images made for one class"
    if share >= GATE:
        return f"synthesize: {found} (gate {GATE:g} %)"
    return (
        f"WARNING: synthesize: {found}, below the gate of {GATE:g} %. Raise the method's "
        "images.class_weight or synthesis.iterations; where it has images.bn_statistics, use "
        "batch_var, whose scale matches the class term"
    )
