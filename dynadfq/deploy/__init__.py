"""From a float network to files: calibration images, and a quantized network that runs anywhere."""
