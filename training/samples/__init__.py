"""Makes the samples that a network is trained on: augmented crops and windows, in batches."""
