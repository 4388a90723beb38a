"""From a network's probabilities on the region to a mask on the CT's own grid."""
