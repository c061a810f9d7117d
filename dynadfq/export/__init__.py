"""Forms of a student that run elsewhere: integer form, ONNX, torch.export."""

from enum import Enum


class Engine(str, Enum):
    """Engines that a student can be timed in. Defined here, where torch is not imported."""

    torch = "torch"
    onnxruntime = "onnxruntime"
