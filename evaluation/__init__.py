"""The organisers' evaluation: the jobs of a submission and the ground truth in, `metrics.json` out.

`container` is the entry point of the image. For whoever has algorithms and cases, `running` makes
the jobs, `report` shows the metrics as a page, and `python -m evaluation` is the command line.
"""
