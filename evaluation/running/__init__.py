"""Runs algorithms on cases under the platform's limits, in containers or natively.

`programs` describes the programs, `engines` runs a program once, `runner` runs it on a cohort of
cases, and `job_store` keeps the jobs. `tests/containers` also uses `programs`, `engines` and
`case_folders`, in the environment of the images' lock file, so these three import nothing that the
images lack.
"""
