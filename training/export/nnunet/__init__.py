"""Turns a trained nnU-Net v2 into a Task 1 model folder. It needs nnU-Net's files, not nnU-Net."""
