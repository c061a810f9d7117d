"""The gate after synthesis: an image of one class that its own teacher does not recognize cannot
teach a student.
"""

from __future__ import annotations

from dynadfq.synthesis.dataset import SyntheticSet

GATE = 90.0  # percent


def gate_message(images: SyntheticSet) -> str:
    """One line on how many one-hot images the teacher recognizes; below the gate, a warning with
    the remedy.
    """
    share = images.one_hot_recognized
    if share is None:
        return "synthesize: no image was made for a single class, so there is nothing for the teacher to recognize"
    if share >= GATE:
        return f"synthesize: the teacher recognizes {share:.1f} % of the one-hot images (gate {GATE:g} %)"
    return (
        f"WARNING: synthesize: the teacher recognizes only {share:.1f} % of the one-hot images (gate {GATE:g} %). "
        "Raise the method's images.class_weight or synthesis.iterations; where it has images.bn_statistics, batch_var "
        "has the scale that the class term matches"
    )
