"""Exact search, filters and results: knows arrays and rows, not galleries."""
