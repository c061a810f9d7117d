"""Accuracy of quantized students against the time that they took, images included."""
