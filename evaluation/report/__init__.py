"""One self-contained page about results: scores with intervals, curves, cases with their errors.

`page` puts the page together from `sections`; one file for each task holds what is special to it.
`numbers` formats scores, `errors` finds the errors of a mask, `risk` forms risk groups, `charts`
and `pictures` draw. Every score on the page is read from `metrics.json`; nothing is measured again.
"""
