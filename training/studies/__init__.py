"""Measurements around a training: baselines, ablation, scores, cases and jobs for the platform."""
