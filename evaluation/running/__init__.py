"""Runs algorithms on cases under the platform's limits, in containers or natively.

`programs` says what is started, `engines` starts it once, `runner` runs a cohort of cases, and
`job_store` keeps the jobs. `tests/containers` uses `programs`, `engines` and `case_folders` too, in
the environment of the images' lock file, so these three need only the standard library.
"""
