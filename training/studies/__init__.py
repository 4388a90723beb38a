"""Measures models: baselines, ablation, scores, cases and jobs for the evaluation."""
