"""NumPy building blocks: pure functions over arrays, bottom-up."""
