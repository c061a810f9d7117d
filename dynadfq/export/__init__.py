"""Forms of a student that run elsewhere: integer form, 8-bit kernels, ONNX, torch.export."""

from enum import Enum


class Engine(str, Enum):
    """Engines that a student can be timed in. Defined here, where torch is not imported."""

    torch = "torch"
    kernels = "kernels"
    onnxruntime = "onnxruntime"
