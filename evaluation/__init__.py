"""The organisers' evaluation: jobs of a submission and the truth in, `metrics.json` out."""
