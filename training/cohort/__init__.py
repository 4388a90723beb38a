"""Finds, checks and prepares the challenge's training data, and divides it into folds."""
