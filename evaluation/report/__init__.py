"""One self-contained page about a run: scores with intervals, curves, cases with their errors.

`page` puts it together, `numbers` says how a score is written, `charts` and `pictures` draw (only
these two know matplotlib), `errors` finds what there is to show, `risk` what the curves are of.
Every score on the page is read from `metrics.json`; nothing is measured anew.
"""
