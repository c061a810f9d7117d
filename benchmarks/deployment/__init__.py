"""Quantized files of one network: calibration images × quantizers × widths, measured."""
