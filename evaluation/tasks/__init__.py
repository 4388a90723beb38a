"""How each task is scored: one file for each task, with the records that `metrics.json` holds.

`base` states what a file must define; `registry` finds the files. To add a task that
`shared.tasks` names, write a file with its name here, and a section of the report (see
`evaluation.report`). Nothing else in the evaluation changes.
"""
