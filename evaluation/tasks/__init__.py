"""The scoring of each task: one file for each task, with the task's records for `metrics.json`.

`base` states what a file must define; `discovery` finds the files. To score a new task of
`shared.tasks`, add a file with the name of the task here, and a section of the report (see
`evaluation.report`). Nothing else in the evaluation changes.
"""
