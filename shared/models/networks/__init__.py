"""The torch definitions of the networks, for training and export only; not part of any image.

Each file holds one network and its configuration. `discovery` finds the Task 1 networks by name.
"""
