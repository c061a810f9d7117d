"""From a fine-tuned student to what runs elsewhere: integer form, 8-bit kernels, ONNX,
torch.export.
"""

from enum import Enum


class Engine(str, Enum):
    """What a student is timed in. It stands here because this module does not wait for torch."""

    torch = "torch"
    kernels = "kernels"
    onnxruntime = "onnxruntime"
