"""One self-contained page about results: scores with intervals, curves, cases with their errors.

`page` puts the page together from `sections`. What is special to a task is in its own two files,
`<task>_section.py` and a template of the same name; `task_section` states what they must define.
`numbers` formats scores, `errors` finds the errors of a mask, `risk` forms risk groups, `charts`
and `pictures` draw. Every score on the page is read from `metrics.json`; nothing is measured again.
"""
