"""The challenge's training data: found, checked, prepared once, and divided into folds."""
