"""Scores as functions of arrays. Each docstring states the result in the empty case."""
