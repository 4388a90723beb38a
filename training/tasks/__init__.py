"""What differs between segmentation, HPV status and survival in training.

Each file with a subclass of `Task` holds one task; `discovery` finds them.
"""
