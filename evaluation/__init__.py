"""Runs the algorithms over cohorts, scores what they write, and reports it with pictures."""
