"""What a network is shown in training: crops and windows, augmented, in batches."""
