"""The training loop that all tasks share: Lightning, losses, devices."""
