"""Writes one self-contained page about results: scores with intervals, curves, pictures of errors.

`page` puts the page together from `sections`. Each task has two files of its own,
`<task>_section.py` and a template of the same name; `task_section` states what they must define.
`numbers` formats scores, `errors` finds the errors of a mask, `risk` forms risk groups, `charts`
and `pictures` draw. Every score on the page is read from `metrics.json`; none is computed again.
"""
