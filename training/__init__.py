"""Training of the three networks, and the phantom patients that stand in for real ones."""
