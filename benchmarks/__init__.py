"""Measurements, one module a question: ``python -m benchmarks`` runs them all."""

from vitseek.blas import prefer_faster_kernels

prefer_faster_kernels()  # as the program does, before any benchmark imports NumPy
