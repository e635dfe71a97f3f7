"""`gpunn report`: what runs of `pytest --benchmark` have found, as a page with pictures."""
