"""PyTorch recipes that feed the NumPy runtime (extra `train`)."""
