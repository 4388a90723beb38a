"""How each task is scored: one file for each task, with the records that `metrics.json` holds.

`base` states what a file must define; `registry` finds the files. To add a task, write a file with
the task's name from `shared.tasks` and a section of the report, see `evaluation.report`.
"""
