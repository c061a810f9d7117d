"""The pipeline's stages: each loads parameters and artifacts, calls the library, and saves."""
