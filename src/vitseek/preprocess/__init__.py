"""From an image file to the pixels a model takes."""
