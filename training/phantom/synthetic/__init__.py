"""A patient made of analytic organs."""
