"""The organisers' evaluation: jobs of a submission and the truth in, `metrics.json` out.

Around it, for whoever has algorithms and cases: `running` makes the jobs, `report` shows what the
metrics say.
"""
