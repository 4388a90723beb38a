"""The organisers' evaluation: it reads jobs and the ground truth, and writes `metrics.json`.

`container` is the entry point of the image. To evaluate algorithms on your own cases, use
`python -m evaluation`: `running` runs the algorithms, and `report` shows the metrics as a page.
"""
