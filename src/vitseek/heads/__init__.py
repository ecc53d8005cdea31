"""Classifiers on features: arrays in, probabilities out."""
