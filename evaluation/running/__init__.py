"""Runs the three algorithms on cases under the platform's limits, in containers or natively.

`engines` makes one run, `runner` a cohort of them, `store` keeps what they leave behind. The first
two of `tasks`, `engines` and `cases` serve `tests/containers` as well, in the environment of the
images' lock file: they need nothing beyond the standard library.
"""
