"""Turns a network's probabilities on the region into a mask on the CT's own grid."""
