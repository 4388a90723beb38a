"""The PyTorch networks, for training and export only; no image contains them.

Each file holds one network and its configuration. `discovery` finds the Task 1 networks by name.
"""
