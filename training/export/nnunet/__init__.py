"""Turns the files of a trained nnU-Net v2 into a Task 1 model folder, without nnU-Net itself."""
