"""The gallery: images, labels and vectors of a folder, kept up to date."""
