"""The training of each task: segmentation, HPV status and survival.

Each task is a subclass of `Task` in its own file; `discovery` finds these files.
"""
